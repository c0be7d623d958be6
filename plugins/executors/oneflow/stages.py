"""Stages as modules: a run of blocks that unpacks its own fields from what the rank was fed."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import oneflow as flow

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, ModelSpec, ParameterSpec, index_by_name, stage_inputs
from pipeloom.core.contract.core_fields import known_fields
from pipeloom.core.contract.dataset import Field
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.block_scope import BlockScope, Handle, StageTensors
from pipeloom.plugins.executors.oneflow.constants import shared_constants
from pipeloom.plugins.executors.oneflow.cuda import ops_for
from pipeloom.plugins.executors.oneflow.dropout import place_keys


@dataclass(frozen=True)
class Packing:
    """Lay the fields of a stage side by side in one int32 and one float32 array per sample."""

    fields: Tuple[Field, ...]

    @classmethod
    def of(cls, names: Sequence[str], known: Mapping[str, Field]) -> "Packing":
        return cls(tuple(known[name] for name in names))

    def columns(self, dtype: str) -> List[Tuple[Field, int, int]]:
        """Return ``(field, first column, width)`` of the fields of ``dtype``."""
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
        """Return the fields by name, ``(batch, *shape)``, from the packed global tensors."""
        result = {}
        for dtype, packed in (("int32", ints), ("float32", floats)):
            for field, start, width in self.columns(dtype):
                value = flow.narrow(packed, 1, start, width)
                result[field.name] = value if len(field.shape) == 1 else value.reshape(packed.shape[0], *field.shape)
        return result


class LentPart(flow.nn.Module):
    """Hold a part of a block that another block borrows, with the parameters that it uses."""

    def __init__(self, part: Callable, handles: Sequence[Handle]) -> None:
        super().__init__()
        self.called, self.handles = (part,), tuple(handles)  # in tuples: no modules, no methods to rebind
        for number, handle in enumerate(handles):
            self.register_parameter(_attribute(number, handle), handle.held)

    def forward(self, field, use=None):
        """Call the part; ``use``: what to take a parameter through whose gradient is accumulated apart."""

        def reader(attribute):
            return lambda: getattr(self, attribute) if use is None else use(getattr(self, attribute))

        with ExitStack() as bound:
            for number, handle in enumerate(self.handles):
                bound.enter_context(handle.bound(reader(_attribute(number, handle))))
            return self.called[0](field)


def _attribute(number: int, handle: Handle) -> str:
    """Return the attribute that holds a parameter, which the engine's names of operations are made of."""
    return f"p{number}_{handle.name.replace('.', '_')}"


class BlockModule(flow.nn.Module):
    """Hold a block with its parameters; ``lent``: its parts that others borrow -> names of their parameters."""

    def __init__(self, block: Block, scope: BlockScope, lent: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.scope, self.called = scope, (block.build(scope),)  # in a tuple: no module, no method to rebind
        #: Where each parameter is held: ``(handle, part or "", attribute)``.
        self.places: List[Tuple[Handle, str, str]] = []
        for part, names in lent.items():
            handles = [scope.handles[name] for name in names]
            setattr(self, f"part_{part}", LentPart(getattr(self.called[0], part), handles))
            self.places += [
                (handle, f"part_{part}", _attribute(number, handle)) for number, handle in enumerate(handles)
            ]
        held = {handle.name for handle, _, _ in self.places}
        for number, handle in enumerate(handle for name, handle in scope.handles.items() if name not in held):
            self.register_parameter(_attribute(number, handle), handle.held)
            self.places.append((handle, "", _attribute(number, handle)))

    def forward(self, hidden, fields):
        # ``self`` is a proxy while a graph is traced, whose attributes are the tensors to compute with. Each is read
        # where it is used: that is where the engine puts it.
        def reader(part, attribute):
            return lambda: getattr(getattr(self, part) if part else self, attribute)

        self.scope.training = self.training
        with ExitStack() as bound:
            for handle, part, attribute in self.places:
                bound.enter_context(handle.bound(reader(part, attribute)))
            return self.called[0](hidden, fields)


class Stage(flow.nn.Module):
    """Run the blocks of one stage, in a row."""

    def __init__(self, blocks: Sequence[BlockModule], packing: Packing, places: Optional[flow.Tensor] = None) -> None:
        """``places``: the table of the places where values are dropped (``dropout.py``)."""
        super().__init__()
        self.packing, self.places = packing, (places,)  # in a tuple: a constant, which the engine is not to know
        self.blocks = flow.nn.ModuleList(list(blocks))
        #: Positions of blocks that are computed again in the backward pass.
        self.recomputed: Sequence[int] = ()

    def score(self, names: Sequence[str]) -> None:
        """Say which outputs per sample are asked for."""
        for block in self.blocks:
            block.scope.scored = tuple(names)

    def forward(self, hidden, ints, floats):
        """Run them on ``hidden``: what the stage before sent, or what the first block borrowed, or None."""
        return self.run(hidden, self.packing.unpack(ints, floats))

    def run(self, hidden, fields):
        """Do as ``forward``, on fields by name."""
        (places,) = self.places
        if not self.training:
            fields[DROPOUT_SEEDS] = None
        elif places is not None:
            fields[DROPOUT_SEEDS] = place_keys(fields[DROPOUT_SEEDS], places)
        with shared_constants():
            for position, block in enumerate(self.blocks):
                with shared_constants() if position in self.recomputed else nullcontext():
                    hidden = block(hidden, fields)
        return hidden


def stage_packings(model: ModelSpec, split: Sequence[int], fields: Mapping[str, Field]) -> List[Packing]:
    """Return for each stage the fields that its ranks load, and how they are packed."""
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
    fused: bool = True,
) -> Tuple[List[Stage], List[Parameters]]:
    """Make the modules of every stage; all ranks make the same calls in the same order.

    Returns the stages and the parameters of each. Copies of one parameter have the same name on several stages.
    """
    lent = lent_parts(model)
    stages, parameters = [], []
    for blocks, here, packing in zip(model.stage_blocks(split), axes, packings):
        tensors = StageTensors(here, ops_for(device_type, here, fused), value_of)
        modules = [BlockModule(block, BlockScope(block, tensors), lent.get(block.name, {})) for block in blocks]
        places = tensors.constant("dropout_places", tensors.places.table) if tensors.places else None
        stages.append(Stage(modules, packing, places))
        parameters.append(list(tensors.parameters.values()))
    return stages, parameters


class Borrowed(NamedTuple):
    """Name what a stage borrows: ``part`` of the block at ``position`` of ``stage``, called with ``field``."""

    stage: int
    position: int
    part: str
    field: str


def find_borrowed(model: ModelSpec, split: Sequence[int]) -> Dict[int, Borrowed]:
    """Return what is borrowed, by the stage of the borrower."""
    positions = index_by_name(model.blocks)
    stage_of = [stage for stage, count in enumerate(split) for _ in range(count)]
    borrowed = {}
    for position, block in enumerate(model.blocks):
        if block.borrow is None:
            continue
        owner = positions[block.borrow.owner]
        stage = stage_of[owner]
        borrowed[stage_of[position]] = Borrowed(
            stage, owner - sum(split[:stage]), block.borrow.part, block.borrow.field
        )
    return borrowed


def lent_parts(model: ModelSpec) -> Dict[str, Dict[str, List[str]]]:
    """Return the parts of blocks that others borrow: block -> part -> names of its parameters.

    They are those that the copy, which would stand in for the borrowing block, has of the owner's.
    """
    owners = {block.name: block for block in model.blocks}
    lent: Dict[str, Dict[str, List[str]]] = {}
    for borrow in (block.borrow for block in model.blocks if block.borrow is not None):
        copied = {spec.name for spec in borrow.copy.parameters}
        names = [spec.name for spec in owners[borrow.owner].parameters if spec.name in copied]
        lent.setdefault(borrow.owner, {})[borrow.part] = names
    return lent
