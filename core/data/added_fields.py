"""Gather the fields that the plugins of a run add to every batch."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable

import numpy as np

from pipeloom.core.base.errors import ContractError, RunError, UsageError
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.data.checking import check_values
from pipeloom.core.host.calls import call


def find_sample_fields(plugins: Any, config: Any, dataset_fields: Iterable[str]) -> Dict[str, SampleField]:
    """Return the fields of ``plugins``, a ``PluginManager``, by name; what they compute is checked.

    Raises ``UsageError`` where one has a name of core, of the dataset or of another plugin. What fails in one of them
    is a ``RunError`` that names its plugin.
    """
    owners = {**dict.fromkeys(dataset_fields, "the dataset"), **dict.fromkeys(CORE_FIELDS, "pipeloom itself")}
    found: Dict[str, SampleField] = {}
    for plugin, answer in plugins.hook.pipeloom_sample_fields.answers(config=config):
        for one in answer:
            name = one.field.name
            if name in owners:
                raise UsageError(
                    f"{plugins.whose(plugin)}: it adds the field '{name}' to every batch, which {owners[name]} has: "
                    "give it another name"
                )
            found[name], owners[name] = _guarded(plugins.whose(plugin), one), f"plugin '{plugin}'"
    return found


def _guarded(whose: str, one: SampleField) -> SampleField:
    def checked(indices: np.ndarray, function: Callable[..., np.ndarray], *arguments: Any) -> np.ndarray:
        def check(value: Any) -> np.ndarray:
            check_values(one.field, value, indices.tolist(), ContractError)
            return value

        where = f"hook pipeloom_sample_fields, '{one.field.name}'"
        return call(whose, where, function, *arguments, check=check, kind=RunError)

    # Each gets a copy of the indices: what one does to them concerns nobody else.
    return SampleField(
        one.field,
        lambda seed, step, indices: checked(indices, one.compute, seed, step, np.array(indices, np.int64)),
        lambda indices: checked(indices, one.held_out, np.array(indices, np.int64)),
    )
