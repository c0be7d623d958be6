"""Layers that encoders and heads are made of, as oneflow modules on the operations of a device (``core/executor/ops.py``).

Their parameters are those that ``core/layers.py`` declares. Shapes: N = rows, B = micro-batch, L = sequence, I = inputs, H = hidden.
"""
from __future__ import annotations

from oneflow import nn


class Linear(nn.Module):
    """``operation`` says how tensor parallelism splits it: ``column_linear``, ``row_linear``, or not at all."""

    def __init__(self, scope, name: str, operation: str = "linear") -> None:
        super().__init__()
        self.ops, self.operation = scope.ops, operation    # by name: nn.Graph rebinds bound methods to its own proxy
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
    """The word table; lives where the decoder is when they are tied."""

    def __init__(self, scope, name: str) -> None:
        super().__init__()
        self.ops = scope.ops
        self.weight = scope.parameter(name)

    def forward(self, ids_BL):
        return self.ops.lookup(self.weight, ids_BL)               # (B, L, H)
