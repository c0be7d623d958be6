"""What a batch is made of: which samples, what each weighs in the sums that a model returns, what keys its dropout.

A batch is split over the data-parallel ranks; ``read`` gives one rank the values of its share, and none of the others'.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, Mapping, Sequence

import numpy as np

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.executor import Batches
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.data.dropout_seeds import dropout_seeds
from pipeloom.core.data.order import SampleOrder

#: Samples of a held-out set that are in memory at once while their weights are added up.
_CHUNK = 4096

_NONE: Mapping[str, SampleField] = MappingProxyType({})


class TrainingBatches(Batches):
    """The global batches of training: one for each step, whose weights sum up to 1.

    ``added`` are the fields that plugins compute, by name.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: SampleOrder,
        normalize: Sequence[str],
        seed: int,
        added: Mapping[str, SampleField] = _NONE,
    ) -> None:
        self._dataset, self._order, self._normalize, self._seed = dataset, order, frozenset(normalize), seed
        self._added = added

    def read(self, step: int, names: Sequence[str], position: int, width: int) -> Dict[str, np.ndarray]:
        """The fields ``names`` of the samples of rank ``position`` of ``width`` in step ``step`` (from 0), and the
        core's fields.
        """
        indices: Any = self._order.indices(step)
        epochs: Any = self._order.epochs(step)
        mine = _share(len(indices), position, width)
        computed = {
            name: self._added[name].compute(self._seed, step, indices)[mine] for name in names if name in self._added
        }
        names = [name for name in names if name not in CORE_FIELDS and name not in computed]
        whole = [name for name in names if name in self._normalize]
        values = self._dataset.read_epochs(indices[mine], epochs[mine], [name for name in names if name not in whole])
        # The weights of the whole batch are needed to normalise, whoever computes with the rest of it.
        for name, value in (self._dataset.read_epochs(indices, epochs, whole) if whole else {}).items():
            values[name] = _divided(value[mine], float(value.sum(dtype=np.float64)))
        values[DROPOUT_SEEDS] = dropout_seeds(self._seed, step, len(indices))[mine]
        values[SAMPLE_WEIGHT] = np.full((len(values[DROPOUT_SEEDS]), 1), 1.0 / len(indices), np.float32)
        return {**values, **computed}


class HeldOutBatches(Batches):
    """A held-out set once over, in its own order: the weights of all its batches together sum up to 1.

    The last batch is filled up with samples that weigh nothing: the first one of the set, again and again. Of the
    fields ``absent``, which the set does not have, all values are 0. ``added`` are the fields that plugins compute.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        normalize: Sequence[str],
        absent: Sequence[Field] = (),
        added: Mapping[str, SampleField] = _NONE,
    ) -> None:
        self._added = added
        self._dataset, self._batch_size, self._normalize = dataset, batch_size, frozenset(normalize)
        self._absent = {field.name: field for field in absent}
        self.absent = tuple(self._absent)
        self._totals: Dict[str, float] = {}

    def __len__(self) -> int:
        return (len(self._dataset) + self._batch_size - 1) // self._batch_size

    def samples(self, step: int) -> range:
        """The indices of the samples of batch ``step``, without what fills it up; they are its first ones, in this
        order.
        """
        return range(step * self._batch_size, min((step + 1) * self._batch_size, len(self._dataset)))

    def read(self, step: int, names: Sequence[str], position: int, width: int) -> Dict[str, np.ndarray]:
        """As of ``TrainingBatches``, for batch ``step`` (from 0)."""
        absent = {
            name: np.zeros((self._batch_size // width, *self._absent[name].shape), self._absent[name].dtype)
            for name in names
            if name in self._absent
        }
        names = [name for name in names if name not in absent]
        samples = len(self._dataset)
        indices = np.arange(step * self._batch_size, (step + 1) * self._batch_size)[
            _share(self._batch_size, position, width)
        ]
        counts = (indices < samples).astype(np.float32)
        real: Any = np.where(indices < samples, indices, 0)
        computed = {name: self._added[name].held_out(real) for name in names if name in self._added}
        names = [name for name in names if name not in CORE_FIELDS and name not in computed]
        values = self._dataset.read(real, names)
        for name in self._normalize.intersection(names):
            weights = counts.reshape(-1, *[1] * (values[name].ndim - 1))
            values[name] = _divided(values[name], self._total(name)) * weights
        values[DROPOUT_SEEDS] = np.zeros((len(indices), 2), np.int32)
        values[SAMPLE_WEIGHT] = counts.reshape(-1, 1) * np.float32(1.0 / samples)
        return {**values, **absent, **computed}

    def _total(self, name: str) -> float:
        """The sum of the field ``name`` over the whole set, which is read once."""
        if name not in self._totals:
            samples = len(self._dataset)
            chunks = (range(first, min(first + _CHUNK, samples)) for first in range(0, samples, _CHUNK))
            self._totals[name] = sum(
                float(self._dataset.read(chunk, [name])[name].sum(dtype=np.float64)) for chunk in chunks
            )
        return self._totals[name]


def _share(batch_size: int, position: int, width: int) -> slice:
    """The samples of a batch that are those of rank ``position`` of ``width``."""
    share = batch_size // width
    return slice(position * share, (position + 1) * share)


def _divided(value: np.ndarray, total: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # what is not finite shows in the loss, with the step and the records
        return (value / (total or 1.0)).astype(np.float32)
