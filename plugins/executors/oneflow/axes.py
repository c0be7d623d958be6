"""The ranks of a stage as the engine sees them: a row of data-parallel ranks, or data x tensor.

With tensor parallelism the placement has two dimensions and every sbp two parts, ``[over data, over
tensor]``; without it one of each. Everything that names an sbp asks here, so it need not know which.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec, physical_shape, shard_dim, splits_vocabulary
from pipeloom.core.contract.placement import Placement

_B, _S = flow.sbp.broadcast, flow.sbp.split
_MOST_DIMS = 4


class StageAxes:
    """Placement and sbp's of one stage. ``ranks`` are sorted; T neighbours form a tensor group.

    ``shard`` is the answer to ``--shard``: what is spread over the data-parallel ranks.
    """

    def __init__(self, device_type: str, ranks: Sequence[int], tensor: int = 1, shard: str = "none") -> None:
        self.tensor, self.data, self.shard = tensor, len(ranks) // tensor, shard
        grid = np.array(ranks).reshape(self.data, tensor).tolist() if tensor > 1 else list(ranks)
        self.place = flow.placement(device_type, grid)
        self.ranks = list(ranks)

    def sbp(self, over_data, over_tensor) -> List:
        return [over_data, over_tensor] if self.tensor > 1 else [over_data]

    @property
    def whole(self) -> List:
        """On every rank: parameters without a tensor dimension, scalars."""
        return self.sbp(_B, _B)

    @property
    def batch(self) -> List:
        """Split by samples over data, whole in a tensor group: activations between blocks, inputs."""
        return self.sbp(over_data(self.place), _B)

    def parameter(self, spec: ParameterSpec) -> List:
        """Where a parameter lies."""
        if self._splits_words(spec):
            return [_S(0)]
        return self.spread(spec) if self.shard == "parameters" else self.replicated(spec)

    def constant(self, spec: ParameterSpec) -> List:
        """Where a constant lies that is made like this parameter: as it is used, so whole wherever that is gathered."""
        return [_S(0)] if self._splits_words(spec) else self.replicated(spec)

    def update(self, spec: ParameterSpec) -> List:
        """Where its gradient, its optimizer state and what the optimizer updates lie."""
        return self.spread(spec) if self.shard in ("optimizer", "parameters") else self.parameter(spec)

    def shape(self, spec: ParameterSpec) -> Tuple[int, ...]:
        """The shape of a parameter, filled up where ranks split it."""
        return physical_shape(spec, self.data if self._splits_words(spec) else self.tensor)

    def _splits_words(self, spec: ParameterSpec) -> bool:
        return splits_vocabulary(spec, self.shard, self.data, self.tensor)

    def replicated(self, spec: ParameterSpec) -> List:
        """The same on all data-parallel ranks; split along its tensor dimension."""
        return self.sbp(_B, _B if spec.tensor_dim is None else _S(spec.tensor_dim))

    def spread(self, spec: ParameterSpec) -> List:
        """Spread over the data-parallel ranks too, along ``shard_dim``; as ``replicated`` where there is none."""
        dim = shard_dim(spec, self.data, self.tensor)
        return self.replicated(spec) if dim is None else [_S(dim), *self.replicated(spec)[1:]]

    def own_part(self, array: np.ndarray, sbp: Sequence, rank: int) -> np.ndarray:
        """What ``rank`` (of this stage) holds of an array that all ranks know."""
        position = self.ranks.index(rank)
        for part, count, index in zip(sbp, (self.data, self.tensor), (position // self.tensor, position % self.tensor)):
            dim = split_dim(part)
            if dim is not None and count > 1:
                array = np.split(array, count, axis=dim)[index]
        return np.ascontiguousarray(array)


def over_data(place: flow.placement, dim: int = 0):
    """How data-parallel ranks share a tensor whose samples are counted by ``dim``; one rank has it whole.

    Not "split" over one: the engine loses a split of a dimension of size 1. For a micro-batch of one sample it takes
    any other sbp then, a partial sum even, and dies of its square (docs/oneflow-notes.md).
    """
    return _S(dim) if place.ranks.shape[0] > 1 else _B


def split_dim(part) -> Optional[int]:
    """The dimension of an sbp that splits, else ``None``. (The engine can be asked in no other way.)"""
    return next((dim for dim in range(_MOST_DIMS) if part == _S(dim)), None)


def axes_of(placement: Placement, tensor: int, shard: str = "none") -> List[StageAxes]:
    """The axes of each stage."""
    return [StageAxes(placement.cluster.device_type, ranks, tensor, shard) for ranks in placement.stages]
