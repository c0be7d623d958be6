"""The ranks of a stage as the engine sees them: a row of data-parallel ranks, or data x tensor.

With tensor parallelism the placement has two dimensions and every sbp two parts, ``[over data, over
tensor]``; without it one of each. Everything that names an sbp asks here, so it need not know which.
"""
from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np
import oneflow as flow

from pipeloom.core.blocks import ParameterSpec
from pipeloom.core.placement import Placement

_B, _S = flow.sbp.broadcast, flow.sbp.split


class StageAxes:
    """Placement and sbp's of one stage. ``ranks`` are sorted; T neighbours form a tensor group."""

    def __init__(self, device_type: str, ranks: Sequence[int], tensor: int) -> None:
        self.tensor, self.data = tensor, len(ranks) // tensor
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
        return self.sbp(_S(0), _B)

    def parameter(self, tensor_dim: Optional[int]) -> List:
        """A parameter that tensor parallelism splits along ``tensor_dim``."""
        return self.sbp(_B, _B if tensor_dim is None else _S(tensor_dim))

    def shards(self, tensor_dim: Optional[int], dims: int) -> List:
        """The same, and spread over data too, along a dimension that tensor parallelism leaves alone."""
        free = next(d for d in range(dims) if d != tensor_dim or self.tensor == 1)
        return self.sbp(_S(free), _B if tensor_dim is None else _S(tensor_dim))

    def tensor_index(self, rank: int) -> int:
        """The position of ``rank`` in its tensor group."""
        return self.ranks.index(rank) % self.tensor


def axes_of(placement: Placement, tensor: int) -> List[StageAxes]:
    """The axes of each stage."""
    return [StageAxes(placement.cluster.device_type, ranks, tensor) for ranks in placement.stages]


def physical_shape(spec: ParameterSpec, tensor: int):
    """``spec.shape`` with its tensor dimension filled up to a multiple of ``tensor``; what is filled in is 0."""
    if spec.tensor_dim is None or tensor == 1:
        return spec.shape
    return tuple(-(-size // tensor) * tensor if dim == spec.tensor_dim else size for dim, size in enumerate(spec.shape))
