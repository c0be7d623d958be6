"""Gather the distributions of initial values that the plugins of a run have."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from pipeloom.core.base.errors import ContractError, UsageError, did_you_mean
from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec
from pipeloom.core.contract.distributions import DISTRIBUTIONS, Distribution
from pipeloom.core.host.calls import call


def find_distributions(plugins: Any, config: Any) -> Dict[str, Distribution]:
    """Return the distributions by name: the built-in ones, and those of ``plugins``, a ``PluginManager``.

    Raises ``UsageError`` where two plugins have one name, or one has that of a built-in one. What fails in one of them
    names its plugin.
    """
    found = dict(DISTRIBUTIONS)
    owners: Dict[str, str] = {}
    for plugin, answer in plugins.hook.pipeloom_initial_distributions.answers(config=config):
        for name, distribution in answer.items():
            if name in found:
                owner = f"plugin '{owners[name]}'" if name in owners else "pipeloom itself"
                raise UsageError(
                    f"{plugins.whose(plugin)}: it adds the initial distribution '{name}', which {owner} has: "
                    "give it another name"
                )
            found[name], owners[name] = _guarded(plugins.whose(plugin), name, distribution), plugin
    return found


def check_distributions(plugins: Any, config: Any, model: ModelSpec) -> None:
    """Raise ``UsageError`` naming the model's plugin where a parameter has an unknown distribution."""
    known = find_distributions(plugins, config)
    for spec in model.parameters:
        if spec.init not in known:
            whose = plugins.whose(plugins.who_answers("pipeloom_build_model"))
            raise UsageError(
                f"{whose}: its parameter '{spec.name}' has the initial distribution '{spec.init}', which nobody adds"
                f"{did_you_mean(spec.init, known)}; there are: {', '.join(sorted(known))}"
            )


def _guarded(whose: str, name: str, distribution: Distribution) -> Distribution:
    def draw(generator: np.random.Generator, spec: ParameterSpec) -> np.ndarray:
        def check(value: Any) -> np.ndarray:
            if not isinstance(value, np.ndarray) or value.shape != tuple(spec.shape) or value.dtype != np.float32:
                what = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
                raise ContractError(
                    f"it answers {what} for '{spec.name}', not a float32 array of the shape {tuple(spec.shape)}"
                )
            return value

        where = f"hook pipeloom_initial_distributions, '{name}'"
        return call(whose, where, distribution, generator, spec, check=check)

    return draw
