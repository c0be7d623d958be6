"""What a trained model says of samples: its outputs per sample, in this process alone and without any training
state.
"""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import Any, Container, Dict, Mapping, Optional, Sequence

import numpy as np

from pipeloom.core.base.devices import check_gpus, hide_gpus, resolve_device
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.executor import ProgramSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.batches import HeldOutBatches
from pipeloom.core.planning.held_out import absent_labels
from pipeloom.plugins.libraries.huggingface.opened_model import OpenedModel, load_plugins
from pipeloom.plugins.libraries.huggingface.source import open_pretrained

#: Fields of transformers that are 0 or 1.
_BINARY = {"input_mask": 2, "segment_ids": 2}


def predict(
    path: str,
    task: str,
    fields: Mapping[str, np.ndarray],
    batch_size: int = 16,
    plugins: Sequence[str] = (),
    device: str = "auto",
    seq_length: Optional[int] = None,
    high: Mapping[str, int] = MappingProxyType({}),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Dict[str, np.ndarray]:
    """Return the outputs of a trained model for samples: name -> float32 ``(samples, *shape)``.

    ``path``: a checkpoint, a run directory or a HuggingFace folder, which must have the head of ``task``. ``fields``
    are those of the samples by name, ``(samples, *shape)``, int32 or float32; values of those in ``high`` must be from
    0 to below that. ``seq_length``: tokens of a sample, by default the longest of the fields. ``settings``: options
    that the samples decide, of those that the plugins declare. ``plugins`` are needed besides those of ``plugins_of``.
    ``device`` is ``cpu``, ``cuda`` or ``auto``: the first GPU, if there is one. Raises ``UsageError``.
    """
    device = resolve_device(device)
    if device == "cuda":
        check_gpus(1)
    samples = Samples(task, fields, high)
    samples.check()
    longest = max((array.shape[1] for array in map(np.asarray, fields.values()) if array.ndim > 1), default=1)
    length = seq_length or longest
    folder = open_pretrained(path, "--checkpoint", needs_settings=False)
    manager = load_plugins(folder, plugins)
    known = manager.options()
    asked = {name: value for name, value in settings.items() if name in known}
    opened = OpenedModel.open(folder, manager, task, fields, ("the task", asked), seq_length=length)
    model = opened.model
    _check(opened, {*fields, *opened.added})
    samples.scored = tuple(model.scores)
    if "vocab" in model.sizes:  # what is looked up must be there: an engine may end the process at an id that is not
        samples.bound({**_BINARY, "input_ids": model.sizes["vocab"], **high})
        samples.check()
    return _outputs(opened, samples, device, min(batch_size, len(samples)))


class Samples(Dataset):
    """Arrays as a dataset; values of the fields in ``high`` are bounded."""

    def __init__(self, task: str, arrays: Mapping[str, np.ndarray], high: Mapping[str, int]) -> None:
        self.task, self.vocab_size = task, 1
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self.bound(high)

    def bound(self, high: Mapping[str, int]) -> None:
        """Declare the fields; values of those in ``high`` must be from 0 to below that."""
        self.fields = {
            name: Field(name, array.shape[1:], str(array.dtype), 0 if name in high else None, high.get(name))
            for name, array in self._arrays.items()
        }

    def __len__(self) -> int:
        return min((len(array) for array in self._arrays.values()), default=0)

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return {name: self._arrays[name][np.asarray(indices, np.int64)] for name in names}

    def describe(self) -> str:
        return f"{len(self)} samples"

    def check(self) -> None:
        """Raise ``UsageError`` for arrays that no graph must be fed."""
        for name, array in self._arrays.items():
            field = self.fields[name]
            if array.dtype not in (np.int32, np.float32):
                raise UsageError(f"field '{name}' is of {array.dtype}: give int32 or float32")
            if len(array) != len(self) or len(array) < 1:
                raise UsageError(
                    f"field '{name}' has {len(array)} samples, others have {len(self)}: give as many of each, and one "
                    f"at least"
                )
            if field.high is not None and not ((array >= 0) & (array < field.high)).all():
                raise UsageError(f"field '{name}' has values that are not in 0 .. {field.high - 1}")


def _check(opened: OpenedModel, fields: Container[str]) -> None:
    model = opened.model
    if not model.scores:
        raise UsageError(f"the task '{model.task}' has no outputs per sample to predict")
    opened.check_weights()
    # Borrowed parts read fields too.
    labels = {field.name for field in model.labels}
    for name in (
        name for block in model.blocks for name in (*block.inputs, *((block.borrow.field,) if block.borrow else ()))
    ):
        if name not in fields and name not in labels and name not in CORE_FIELDS:
            raise UsageError(f"predicting '{model.task}' needs the field '{name}'")


def _outputs(opened: OpenedModel, samples: Samples, device: str, batch_size: int) -> Dict[str, np.ndarray]:
    model, config, added = opened.model, opened.config, opened.added
    # Here and not above: what is wrong with the model or the samples is said without waiting for the engine.
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)  # left over from a job, they would make the engine wait for its other ranks
    if device == "cpu":
        hide_gpus()
    cluster, split = Cluster(1, 1, device), (len(model.blocks),)
    computed = {name: one.field for name, one in added.items()}
    fields = {**{field.name: field for field in model.labels}, **samples.fields, **computed}
    executor = opened.plugins.hook.pipeloom_executor(config=config)
    executor.check(cluster, config)
    executor.start()
    program = executor.build(
        ProgramSpec(model, split, Placement.of(cluster, [[0]]), Mesh(1, 1), fields, rank=0, value_of=opened.values())
    )
    found = {name: np.zeros((len(samples), *shape), np.float32) for name, shape in model.scores.items()}

    def receive(indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        for name, values in outputs.items():
            found[name][list(indices)] = values

    absent = list(absent_labels(model, samples).values())
    batches = HeldOutBatches(samples, batch_size, model.normalize, absent, added)
    program.evaluator(batches, samples.scored).evaluate(receive)
    return found
