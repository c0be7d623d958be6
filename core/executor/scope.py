"""What a block's ``build`` gets: its parameters and constants as global tensors, and operations."""
from __future__ import annotations

from typing import Callable, Dict, Mapping, Sequence

import numpy as np
import oneflow as flow

from pipeloom.core.blocks import ParameterSpec
from pipeloom.core.executor.dropout import Dropout, position_table
from pipeloom.core.executor.ops import Ops


class Scope:
    """One stage as its blocks see it: nothing about ranks, only "my parameters" and "my operations"."""

    def __init__(self, placement, ops: Ops, specs: Mapping[str, ParameterSpec],
                 value_of: Callable[[ParameterSpec], np.ndarray]) -> None:
        self.ops = ops
        self._placement, self._specs, self._value_of = placement, specs, value_of
        self._holds = flow.env.get_rank() in placement.ranks.reshape(-1).tolist()
        self._constants: Dict[str, flow.Tensor] = {}
        #: The parameters made so far, by name.
        self.parameters: Dict[str, flow.nn.Parameter] = {}

    def parameter(self, name: str) -> flow.nn.Parameter:
        """The parameter that the block declared as ``name``; asked for twice, it is one and the same."""
        if name not in self.parameters:
            spec = self._specs[name]
            value = self._value_of(spec) if self._holds else np.zeros(spec.shape, np.float32)
            self.parameters[name] = flow.nn.Parameter(self._to_global(value))
        return self.parameters[name]

    def constant(self, name: str, make: Callable[[], np.ndarray]) -> flow.Tensor:
        """A constant array, made once per stage."""
        if name not in self._constants:
            self._constants[name] = self._to_global(make())
        return self._constants[name]

    def dropout(self, name: str, p: float, shape: Sequence[int]) -> Dropout:
        """Dropout at the place ``name`` (unique in the model) of activations ``(batch, *shape)``."""
        size = int(np.prod(shape))
        # The engine takes no new constants while a graph is built, so the table is made here.
        table = self.constant(f"positions_{size}", lambda: position_table(size)) if p > 0 else None
        return Dropout(name, p, table)

    def _to_global(self, array: np.ndarray) -> flow.Tensor:
        # Every rank makes the call, those outside the stage with a filler of the same shape.
        local = flow.from_numpy(np.ascontiguousarray(array))
        if self._placement.type != "cpu":
            local = local.to(self._placement.type)
        return local.to_global(placement=self._placement, sbp=flow.sbp.broadcast, check_meta=False)
