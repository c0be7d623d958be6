"""What a block's ``build`` gets: its parameters and constants as global tensors, and operations."""

from __future__ import annotations

from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.contract.blocks import Block, ParameterSpec
from pipeloom.core.contract.dropout_masks import position_table
from pipeloom.core.contract.scope import Decoding
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.dropout import Dropout, Places
from pipeloom.plugins.executors.oneflow.handle import Handle
from pipeloom.plugins.executors.oneflow.ops import StageOps


class StageTensors:
    """Make the parameters and constants of one stage, each once."""

    def __init__(self, axes: StageAxes, ops: StageOps, value_of: Callable[[ParameterSpec], np.ndarray]) -> None:
        self.ops = ops
        self._axes, self._value_of = axes, value_of
        self._constants: Dict[str, flow.Tensor] = {}
        #: Where the stage drops values.
        self.places = Places()
        #: The parameters made so far, by name.
        self.parameters: Dict[str, Tuple[ParameterSpec, flow.nn.Parameter]] = {}

    def parameter(self, spec: ParameterSpec) -> flow.nn.Parameter:
        """Return the parameter of ``spec``."""
        if spec.name not in self.parameters:
            made = make_parameter(spec, self._axes, self._axes.parameter(spec), self._value_of)
            self.parameters[spec.name] = (spec, made)
        return self.parameters[spec.name][1]

    def constant(
        self, name: str, make: Callable[[], np.ndarray], tensor_dim: Optional[int] = None, vocabulary: bool = False
    ) -> flow.Tensor:
        """Return the constant ``name``; split along ``tensor_dim`` by the ranks that split parameters so."""
        if name not in self._constants:
            value = make()
            spec = ParameterSpec(name, value.shape, tensor_dim=tensor_dim, vocabulary=vocabulary)
            self._constants[name] = to_global(value, self._axes, self._axes.constant(spec))
        return self._constants[name]


class BlockScope:
    """Give the ``build`` of one block what it needs (``core/contract/scope.py``)."""

    def __init__(self, block: Block, tensors: StageTensors) -> None:
        self.ops, self.training, self.scored = tensors.ops, True, ()
        self.decoding: Optional[Decoding] = None
        self._specs = {spec.name: spec for spec in block.parameters}
        self._tensors = tensors
        #: What the block has asked for, by name.
        self.handles: Dict[str, Handle] = {}

    def parameter(self, name: str) -> Handle:
        if name not in self.handles:
            self.handles[name] = Handle(name, self._tensors.parameter(self._specs[name]))
        return self.handles[name]

    def constant(
        self, name: str, make: Callable[[], np.ndarray], tensor_dim: Optional[int] = None, vocabulary: bool = False
    ) -> flow.Tensor:
        return self._tensors.constant(name, make, tensor_dim, vocabulary)

    def dropout(self, name: str, p: float, shape: Sequence[int], split: bool = False) -> Dropout:
        size = int(np.prod(shape))
        # The engine takes no new constants while a graph is built, so the table is made here.
        kind = f"positions_{size}" + ("_split" if split else "")
        if p == 0:
            return Dropout(name, p)
        table = self.constant(kind, lambda: position_table(size), 1 if split else None)
        return Dropout(name, p, self._tensors.places, table)


def make_parameter(
    spec: ParameterSpec, axes: StageAxes, sbp: Sequence, value_of: Callable[[ParameterSpec], np.ndarray]
) -> flow.nn.Parameter:
    """Make the parameter of ``spec`` with its first value, filled up for tensor parallelism where need be."""
    return flow.nn.Parameter(filled_up(spec, axes, sbp, value_of))


def filled_up(
    spec: ParameterSpec, axes: StageAxes, sbp: Sequence, value_of: Callable[[ParameterSpec], np.ndarray]
) -> flow.Tensor:
    """Make a global tensor of a value of the parameter ``spec`` or of its optimizer's state, filled up as it is.

    ``value_of`` is called on the ranks of the stage alone.
    """
    value = np.zeros(axes.shape(spec), np.float32)
    if flow.env.get_rank() in axes.ranks:
        value[tuple(map(slice, spec.shape))] = value_of(spec)
    return to_global(value, axes, sbp)


def to_global(array: np.ndarray, axes: StageAxes, sbp: Sequence) -> flow.Tensor:
    """Make a global tensor of an array that every rank of the stage knows; each hands in its own part.

    Every rank makes the call, those outside the stage with a filler of the same shape.
    """
    rank = flow.env.get_rank()
    local = flow.from_numpy(axes.own_part(array, sbp, rank if rank in axes.ranks else axes.ranks[0]))
    if axes.place.type != "cpu":
        local = local.to(axes.place.type)
    return local.to_global(placement=axes.place, sbp=sbp, check_meta=False)
