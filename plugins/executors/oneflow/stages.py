"""Stages as modules: a run of blocks that unpacks its own fields from what the rank was fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import oneflow as flow

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, ModelSpec, ParameterSpec, stage_inputs
from pipeloom.core.contract.core_fields import known_fields
from pipeloom.core.contract.dataset import Field
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.ops import ops_for
from pipeloom.plugins.executors.oneflow.scope import Scope


@dataclass(frozen=True)
class Packing:
    """How the fields of a stage lie side by side in one int32 and one float32 array per sample."""

    fields: Tuple[Field, ...]

    @classmethod
    def of(cls, names: Sequence[str], known: Mapping[str, Field]) -> "Packing":
        return cls(tuple(known[name] for name in names))

    def columns(self, dtype: str) -> List[Tuple[Field, int, int]]:
        """``(field, first column, width)`` of the fields of ``dtype``."""
        result, start = [], 0
        for field in self.fields:
            if field.dtype == dtype:
                width = 1
                for size in field.shape:
                    width *= size
                result.append((field, start, width))
                start += width
        return result

    def width(self, dtype: str) -> int:
        return sum(width for _, _, width in self.columns(dtype))

    def unpack(self, ints: flow.Tensor, floats: flow.Tensor) -> Dict[str, flow.Tensor]:
        """The fields by name, ``(batch, *shape)``, from the packed global tensors."""
        result = {}
        for dtype, packed in (("int32", ints), ("float32", floats)):
            for field, start, width in self.columns(dtype):
                value = flow.narrow(packed, 1, start, width)
                result[field.name] = value if len(field.shape) == 1 else value.reshape(packed.shape[0], *field.shape)
        return result


class Stage(flow.nn.Module):
    """The blocks of one stage, in a row."""

    def __init__(self, blocks: Sequence[Block], packing: Packing, scope: Scope) -> None:
        super().__init__()
        self.packing = packing
        self.names = [block.name for block in blocks]
        self.blocks = flow.nn.ModuleList([block.build(scope) for block in blocks])

    def forward(self, hidden, ints, floats):
        """``hidden``: what the stage before sent, or what the first block borrowed, or None."""
        fields = self.packing.unpack(ints, floats)
        if not self.training:
            fields[DROPOUT_SEEDS] = None
        for block in self.blocks:
            hidden = block(hidden, fields)
        return hidden


def stage_packings(model: ModelSpec, split: Sequence[int], fields: Mapping[str, Field]) -> List[Packing]:
    """For each stage, the fields that its ranks load, and how they are packed."""
    known = known_fields(fields)
    return [Packing.of(stage_inputs(blocks, model.blocks), known) for blocks in model.stage_blocks(split)]


#: A parameter with what its block declared of it.
Parameters = List[Tuple[ParameterSpec, flow.nn.Parameter]]


def build_stages(
    model: ModelSpec,
    split: Sequence[int],
    axes: Sequence[StageAxes],
    packings: Sequence[Packing],
    device_type: str,
    value_of,
) -> Tuple[List[Stage], List[Parameters]]:
    """Make the modules of every stage; all ranks make the same calls in the same order.

    Returns the stages and the parameters of each. Copies of one parameter have the same name on several stages.
    """
    stages, parameters = [], []
    for blocks, here, packing in zip(model.stage_blocks(split), axes, packings):
        specs = {spec.name: spec for block in blocks for spec in block.parameters}
        scope = Scope(here, ops_for(device_type, here), specs, value_of)
        stages.append(Stage(blocks, packing, scope))
        parameters.append([(specs[name], tensor) for name, tensor in scope.parameters.items()])
    return stages, parameters
