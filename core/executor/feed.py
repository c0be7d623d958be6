"""Feeding batches: each rank reads the fields of its own stage and its own samples, and nothing else."""
from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT
from pipeloom.core.data.dataset import Dataset
from pipeloom.core.data.order import SampleOrder
from pipeloom.core.executor.axes import StageAxes
from pipeloom.core.executor.stages import Packing
from pipeloom.core.initialization import dropout_seeds
from pipeloom.core.placement import Placement


class Feed:
    """Makes the graph's inputs for a step. Every rank calls ``inputs`` with the same step."""

    def __init__(self, dataset: Dataset, order: SampleOrder, placement: Placement, axes: Sequence[StageAxes],
                 packings: Sequence[Packing], normalize: Sequence[str], seed: int, rank: int) -> None:
        self._dataset, self._order, self._seed = dataset, order, seed
        self._packings, self._normalize = packings, frozenset(normalize)
        self._axes = axes
        self._device = placement.cluster.device_type
        self._stage = placement.stage_of(rank)
        self._width = axes[0].data
        # The ranks of a tensor group are neighbours, and read the same samples.
        self._position = placement.stages[self._stage].index(rank) // axes[0].tensor

    def inputs(self, step: int) -> List[flow.Tensor]:
        """``ints, floats`` of every stage for step ``step`` (from 0), as global tensors split by samples."""
        own = self._read(step)
        batch = len(own[0])
        tensors = []
        for stage, (packing, axes) in enumerate(zip(self._packings, self._axes)):
            for index, dtype in enumerate(("int32", "float32")):
                # One column at the least: the engine takes no empty inputs.
                array = own[index] if stage == self._stage else np.zeros((batch, max(1, packing.width(dtype))), dtype)
                local = flow.from_numpy(array)
                local = local if self._device == "cpu" else local.to(self._device)
                tensors.append(local.to_global(placement=axes.place, sbp=axes.batch, check_meta=False))
        return tensors

    def _read(self, step: int) -> Tuple[np.ndarray, np.ndarray]:
        """This rank's packed fields: its share of the global batch, in the order of the batch."""
        indices = self._order.indices(step)
        share = len(indices) // self._width
        mine = slice(self._position * share, (self._position + 1) * share)
        packing = self._packings[self._stage]
        names = [field.name for field in packing.fields if field.name not in (DROPOUT_SEEDS, SAMPLE_WEIGHT)]
        whole = [name for name in names if name in self._normalize]
        values = self._dataset.read(indices[mine], [name for name in names if name not in whole])
        # The weights of the whole batch are needed to normalise, whoever computes with the rest of it.
        for name, value in (self._dataset.read(indices, whole) if whole else {}).items():
            total = float(value.sum(dtype=np.float64))
            with np.errstate(invalid="ignore"):    # what is not finite shows in the loss, with the step and the records
                values[name] = (value[mine] / (total or 1.0)).astype(np.float32)
        values[DROPOUT_SEEDS] = dropout_seeds(self._seed, step, len(indices))[mine]
        values[SAMPLE_WEIGHT] = np.full((share, 1), 1.0 / len(indices), np.float32)
        return self._pack(packing, values, share, "int32"), self._pack(packing, values, share, "float32")

    @staticmethod
    def _pack(packing: Packing, values: Dict[str, np.ndarray], share: int, dtype: str) -> np.ndarray:
        packed = np.zeros((share, max(1, packing.width(dtype))), dtype)
        for field, start, width in packing.columns(dtype):
            packed[:, start:start + width] = values[field.name].reshape(share, width)
        return packed
