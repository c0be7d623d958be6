"""Layers that encoders and heads are made of: the parameters of each, and the layer itself on a block's scope."""

from __future__ import annotations

from typing import Optional, Tuple

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.scope import Scope, Tensor

#: The activations between dense layers, by the names that ``hidden_act`` in config.json has for them: what they
#: compute.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def dense(name: str, out: int, inner: int, split: str = "", std: float = 0.02) -> Tuple[ParameterSpec, ParameterSpec]:
    """State weight ``(out, inner)`` and bias of a linear layer.

    ``split``: what tensor parallelism splits, the ``"column"``s of the result or the ``"row"``s of the input; ``""``:
    nothing. ``std``: the standard deviation of the initial weights.
    """
    return (
        ParameterSpec(f"{name}.weight", (out, inner), std=std, tensor_dim={"column": 0, "row": 1}.get(split)),
        ParameterSpec(
            f"{name}.bias",
            (out,),
            "zeros",
            decay=False,
            tensor_dim=0 if split == "column" else None,
            products=0,
            lookups=1,
        ),
    )


def layer_norm(name: str, width: int) -> Tuple[ParameterSpec, ParameterSpec]:
    """State weight and bias of a LayerNorm."""
    return (
        ParameterSpec(f"{name}.weight", (width,), "ones", decay=False, products=0, lookups=1),
        ParameterSpec(f"{name}.bias", (width,), "zeros", decay=False, products=0, lookups=1),
    )


class Linear:
    """Compute ``x weight^T + bias``; ``operation`` is how tensor parallelism splits it: ``"column_linear"``,
    ``"row_linear"``, or not at all."""

    def __init__(self, scope: Scope, name: str, operation: str = "linear") -> None:
        self._apply = getattr(scope.ops, operation)
        self.weight = scope.parameter(f"{name}.weight")
        self.bias = scope.parameter(f"{name}.bias")

    def __call__(self, x_NI: Tensor) -> Tensor:
        return self._apply(x_NI, self.weight, self.bias)


class LayerNorm:
    """Normalise the rows of ``(N, H)``."""

    def __init__(self, scope: Scope, name: str, eps: float) -> None:
        self._ops, self._eps = scope.ops, eps
        self.weight = scope.parameter(f"{name}.weight")
        self.bias = scope.parameter(f"{name}.bias")

    def __call__(self, x_NH: Tensor) -> Tensor:
        return self._ops.layer_norm(x_NH, self.weight, self.bias, self._eps)


class WordLookup:
    """Look up ids ``(B, L)`` in the word table: ``(B, L, H)``; the vector of ``padding`` is not trained by that.

    It lives where the decoder is when they are tied, and the embeddings borrow it (``core/contract/blocks.py``).
    """

    def __init__(self, scope: Scope, name: str, padding: Optional[int] = None) -> None:
        self._ops, self._padding = scope.ops, padding
        self.weight = scope.parameter(name)

    def __call__(self, ids_BL: Tensor) -> Tensor:
        return self._ops.lookup(self.weight, ids_BL, self._padding)
