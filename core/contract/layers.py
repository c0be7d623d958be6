"""Parameters of the layers that encoders and heads are made of (``plugins/executors/oneflow/layers.py`` has the modules)."""

from __future__ import annotations

from typing import Tuple

from pipeloom.core.contract.blocks import ParameterSpec

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


def dense(name: str, out: int, inner: int, split: str = "") -> Tuple[ParameterSpec, ParameterSpec]:
    """Weight ``(out, inner)`` and bias of a linear layer.

    ``split``: what tensor parallelism splits, the ``"column"``s of the result or the ``"row"``s of the input; ``""``:
    nothing.
    """
    return (
        ParameterSpec(f"{name}.weight", (out, inner), tensor_dim={"column": 0, "row": 1}.get(split)),
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
    """Weight and bias of a LayerNorm."""
    return (
        ParameterSpec(f"{name}.weight", (width,), "ones", decay=False, products=0, lookups=1),
        ParameterSpec(f"{name}.bias", (width,), "zeros", decay=False, products=0, lookups=1),
    )
