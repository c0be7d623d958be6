"""What a block's ``build`` gets: its parameters and constants as global tensors, and operations."""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Optional, Sequence

import numpy as np
import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec, physical_shape
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.dropout import Dropout, position_table
from pipeloom.plugins.executors.oneflow.ops import Ops


class Scope:
    """One stage as its blocks see it: nothing about ranks, only "my parameters" and "my operations"."""

    def __init__(
        self,
        axes: StageAxes,
        ops: Ops,
        specs: Mapping[str, ParameterSpec],
        value_of: Callable[[ParameterSpec], np.ndarray],
    ) -> None:
        self.ops = ops
        self._axes, self._specs, self._value_of = axes, specs, value_of
        self._constants: Dict[str, flow.Tensor] = {}
        #: The parameters made so far, by name.
        self.parameters: Dict[str, flow.nn.Parameter] = {}

    def parameter(self, name: str) -> flow.nn.Parameter:
        """The parameter that the block declared as ``name``; asked for twice, it is one and the same."""
        if name not in self.parameters:
            spec = self._specs[name]
            self.parameters[name] = make_parameter(spec, self._axes, self._axes.parameter(spec), self._value_of)
        return self.parameters[name]

    def constant(self, name: str, make: Callable[[], np.ndarray], tensor_dim: Optional[int] = None) -> flow.Tensor:
        """A constant array, made once per stage; over a tensor group split along ``tensor_dim``."""
        if name not in self._constants:
            over_tensor = flow.sbp.broadcast if tensor_dim is None else flow.sbp.split(tensor_dim)
            self._constants[name] = to_global(make(), self._axes, self._axes.sbp(flow.sbp.broadcast, over_tensor))
        return self._constants[name]

    def dropout(self, name: str, p: float, shape: Sequence[int], split: bool = False) -> Dropout:
        """Dropout at the place ``name`` (unique in the model) of activations ``(batch, *shape)``.

        ``split``: over a tensor group they are split along the first dimension of ``shape`` (attention heads).
        """
        size = int(np.prod(shape))
        # The engine takes no new constants while a graph is built, so the table is made here.
        kind = f"positions_{size}" + ("_split" if split else "")
        table = self.constant(kind, lambda: position_table(size), 1 if split else None) if p > 0 else None
        return Dropout(name, p, table)


def make_parameter(
    spec: ParameterSpec, axes: StageAxes, sbp: Sequence, value_of: Callable[[ParameterSpec], np.ndarray]
) -> flow.nn.Parameter:
    """The parameter of ``spec`` with its first value, filled up for tensor parallelism where need be."""
    return flow.nn.Parameter(filled_up(spec, axes, sbp, value_of))


def filled_up(
    spec: ParameterSpec, axes: StageAxes, sbp: Sequence, value_of: Callable[[ParameterSpec], np.ndarray]
) -> flow.Tensor:
    """A value of the parameter ``spec`` (or of its optimizer's state) as a global tensor, filled up as the parameter
    is.

    ``value_of`` is called on the ranks of the stage alone.
    """
    value = np.zeros(physical_shape(spec, axes.tensor), np.float32)
    if flow.env.get_rank() in axes.ranks:
        value[tuple(map(slice, spec.shape))] = value_of(spec)
    return to_global(value, axes, sbp)


def to_global(array: np.ndarray, axes: StageAxes, sbp: Sequence) -> flow.Tensor:
    """A global tensor of an array that every rank of the stage knows; each hands in its own part.

    Every rank makes the call, those outside the stage with a filler of the same shape.
    """
    rank = flow.env.get_rank()
    local = flow.from_numpy(axes.own_part(array, sbp, rank if rank in axes.ranks else axes.ranks[0]))
    if axes.place.type != "cpu":
        local = local.to(axes.place.type)
    return local.to_global(placement=axes.place, sbp=sbp, check_meta=False)
