"""What the engine has for CUDA devices alone: fused kernels, settings of NCCL, copies from pinned memory.

None of it has run on a GPU (docs/cuda.md). What a CPU can say of it is tested: that the installed engine has these
functions with these arguments, takes these shapes, and keeps these settings.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.functions import gathered
from pipeloom.plugins.executors.oneflow.ops import CpuOps, StageOps


class FusedOps(StageOps):
    """Compute by the engine's fused kernels.

    Not among them: kernels that draw the masks of dropout themselves (``fused_bias_add_dropout``,
    ``fused_scale_mask_softmax_dropout``), since masks must not depend on the layout; ``fused_bias_add_gelu``, since
    the product adds the bias already.
    """

    def linear(self, x, weight, bias):
        if bias is None:
            return flow.matmul(x, gathered(weight), transpose_b=True)
        return flow._C.fused_matmul_bias(x, gathered(weight), gathered(bias))

    def add_row(self, x, row):
        return flow._C.bias_add(x, gathered(row), axis=1)

    def layer_norm(self, x, weight, bias, eps):
        return flow._C.layer_norm_affine(
            x, gathered(weight), gathered(bias), begin_norm_axis=1, begin_params_axis=1, epsilon=eps
        )

    def attention(self, query, key, value, mask, drop):
        """Scale, mask and softmax in one kernel. Masks of this model are 0 or at most ``MASKED``."""
        seen = mask > self.MASKED / 2
        scores = flow.matmul(query, key, transpose_b=True)
        scale = 1.0 / math.sqrt(query.shape[-1])
        probabilities = flow._C.fused_scale_mask_softmax(scores, seen, fill_value=self.MASKED, scale=scale)
        return flow.matmul(drop(probabilities), value)


def ops_for(device_type: str, axes: Optional[StageAxes] = None, fused: bool = True) -> StageOps:
    """Return the operations for ``"cpu"`` or ``"cuda"``, on the ranks of a stage.

    Without ``fused`` those of a CPU serve on CUDA too: products and elementwise operations, which each device has.
    """
    return FusedOps(axes) if device_type == "cuda" and fused else CpuOps(axes)


class Nccl(NamedTuple):
    """State how exchanges by NCCL are made; ``None``: as the engine does by itself.

    ``fusion_mbytes``, ``fusion_ops``: up to so many bytes and exchanges become one. ``compute_stream``: exchanges
    wait in the order of the computation, which takes less memory and overlaps nothing.
    """

    fusion_mbytes: Optional[int] = None
    fusion_ops: Optional[int] = None
    compute_stream: Optional[bool] = None

    @classmethod
    def of(cls, config: Any) -> "Nccl":
        """Return what the options say."""
        return cls(*(getattr(config, f"nccl_{name}", None) for name in cls._fields))

    def given(self) -> Dict[str, Any]:
        """Return what is set, by the names of the options."""
        return {f"nccl_{name}": value for name, value in self._asdict().items() if value is not None}

    def apply(self) -> None:
        """Set it in the engine, before the first graph is compiled."""
        nccl = flow.boxing.nccl
        if self.fusion_mbytes is not None:
            nccl.set_fusion_threshold_mbytes(self.fusion_mbytes)
        if self.fusion_ops is not None:
            nccl.set_fusion_max_ops_num(self.fusion_ops)
        if self.compute_stream is not None:
            nccl.enable_use_compute_stream(self.compute_stream)


def pinned_like(array: np.ndarray) -> flow.Tensor:
    """Return a tensor in pinned memory, which a GPU copies from while the host goes on."""
    return flow.from_numpy(np.zeros_like(array)).pin_memory()


class PinnedCopies:
    """Copy arrays to a device through buffers in pinned memory, of which each array has two, in turns.

    The engine orders operations on a tensor: a buffer is written again when the copy from it is done.
    """

    def __init__(self, device: str, make: Callable[[np.ndarray], flow.Tensor] = pinned_like) -> None:
        self._device, self._make = device, make
        self._buffers: Dict[str, List[flow.Tensor]] = {}

    def send(self, name: str, array: np.ndarray) -> flow.Tensor:
        """Return ``array``, called ``name``, on the device; its shape and type are the same at each call."""
        if name not in self._buffers:
            self._buffers[name] = [self._make(array), self._make(array)]
        self._buffers[name].reverse()
        buffer = self._buffers[name][0]
        buffer.copy_(flow.from_numpy(array))
        return buffer.to(self._device)
