"""Layers that encoders and heads are made of, as oneflow modules on the operations of a device
(``plugins/executors/oneflow/ops.py``).

Their parameters are those that ``core/contract/layers.py`` declares. Shapes: N = rows, B = micro-batch, L = sequence, I =
inputs, H = hidden.
"""

from __future__ import annotations

from typing import Optional

import oneflow as flow
from oneflow import nn


class Linear(nn.Module):
    """``operation`` says how tensor parallelism splits it: ``column_linear``, ``row_linear``, or not at all."""

    def __init__(self, scope, name: str, operation: str = "linear") -> None:
        super().__init__()
        self.ops, self.operation = scope.ops, operation  # by name: nn.Graph rebinds bound methods to its own proxy
        self.weight = scope.parameter(f"{name}.weight")
        self.bias = scope.parameter(f"{name}.bias")

    def forward(self, x_NI):
        return getattr(self.ops, self.operation)(x_NI, self.weight, self.bias)


class LayerNorm(nn.Module):
    def __init__(self, scope, name: str, eps: float) -> None:
        super().__init__()
        self.ops, self.eps = scope.ops, eps
        self.weight = scope.parameter(f"{name}.weight")
        self.bias = scope.parameter(f"{name}.bias")

    def forward(self, x_NH):
        return self.ops.layer_norm(x_NH, self.weight, self.bias, self.eps)


class WordLookup(nn.Module):
    """The word table; lives where the decoder is when they are tied. The vector of the id ``padding`` gets no gradient
    by being looked up.
    """

    def __init__(self, scope, name: str, padding: Optional[int] = None) -> None:
        super().__init__()
        self.ops, self.padding = scope.ops, padding
        self.weight = scope.parameter(name)

    def forward(self, ids_BL, use=None):
        """``use``: what to take the table through when another stage borrows the look-up (``core/contract/blocks.py``,
        ``Borrow``).
        """
        words_BLH = self.ops.lookup(self.weight if use is None else use(self.weight), ids_BL)
        if self.padding is None:
            return words_BLH
        return _GradientWhere.apply(words_BLH, (ids_BL != self.padding).to(flow.float32).unsqueeze(-1))


class _GradientWhere(flow.autograd.Function):
    """``x_BLH`` itself, whose gradient is cut off where ``kept_BL1`` is 0."""

    @staticmethod
    def forward(ctx, x_BLH, kept_BL1):
        ctx.save_for_backward(kept_BL1)
        return x_BLH * 1.0

    @staticmethod
    def backward(ctx, grad_BLH):
        (kept_BL1,) = ctx.saved_tensors
        return grad_BLH * kept_BL1, None
