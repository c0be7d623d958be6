"""Feeding batches: each rank reads the fields of its own stage and its own samples, and nothing else."""

from __future__ import annotations

from typing import Dict, List, Sequence

import numpy as np
import oneflow as flow

from pipeloom.core.contract.executor import Batches
from pipeloom.core.contract.placement import Placement
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.cuda import PinnedCopies
from pipeloom.plugins.executors.oneflow.stages import Packing


class Feed:
    """Makes the graph's inputs for a step. Every rank calls ``inputs`` with the same step."""

    def __init__(
        self,
        batches: Batches,
        placement: Placement,
        axes: Sequence[StageAxes],
        packings: Sequence[Packing],
        rank: int,
    ) -> None:
        self._batches, self._packings, self._axes = batches, packings, axes
        device = placement.cluster.device_type
        self._copies = None if device == "cpu" else PinnedCopies(device)
        self._stage = placement.stage_of(rank)
        self._width = axes[0].data
        # The ranks of a tensor group are neighbours, and read the same samples.
        self._position = placement.stages[self._stage].index(rank) // axes[0].tensor

    def inputs(self, step: int) -> List[flow.Tensor]:
        """``ints, floats`` of every stage for step ``step`` (from 0), as global tensors split by samples."""
        own = self._read(step)
        share = len(own["int32"])
        tensors = []
        for stage, (packing, axes) in enumerate(zip(self._packings, self._axes)):
            for dtype in ("int32", "float32"):
                # One column at the least: the engine takes no empty inputs.
                array = own[dtype] if stage == self._stage else np.zeros((share, max(1, packing.width(dtype))), dtype)
                local = self._on_device(f"{dtype} {stage}", array)
                tensors.append(local.to_global(placement=axes.place, sbp=axes.batch, check_meta=False))
        return tensors

    def _on_device(self, name: str, array: np.ndarray) -> flow.Tensor:
        return flow.from_numpy(array) if self._copies is None else self._copies.send(name, array)

    def _read(self, step: int) -> Dict[str, np.ndarray]:
        """This rank's packed fields, by dtype: its share of the batch, in the order of the batch."""
        packing = self._packings[self._stage]
        values = self._batches.read(step, [field.name for field in packing.fields], self._position, self._width)
        return {dtype: _pack(packing, values, dtype) for dtype in ("int32", "float32")}


def _pack(packing: Packing, values: Dict[str, np.ndarray], dtype: str) -> np.ndarray:
    share = len(next(iter(values.values())))
    packed = np.zeros((share, max(1, packing.width(dtype))), dtype)
    for field, start, width in packing.columns(dtype):
        packed[:, start : start + width] = values[field.name].reshape(share, width)
    return packed
