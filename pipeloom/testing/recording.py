"""A model built and run without numbers: what each block takes, reads, computes, keeps and hands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from pipeloom.core.base.errors import did_you_mean
from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, ModelSpec, ParameterSpec, physical_shape
from pipeloom.core.contract.core_fields import known_fields
from pipeloom.core.contract.dataset import Field
from pipeloom.testing.check import ConformanceError, need
from pipeloom.testing.symbols import CountingOps, ParameterSymbol, Symbol, Tally

#: Samples of the batch that is run through: no size that a model has for something else.
SAMPLES = 3


@dataclass
class Recorded:
    """What one block did. ``taken``: the parameters that it asked for, by name; ``read``: fields."""

    block: Block
    tally: Tally = field(default_factory=Tally)
    taken: Dict[str, ParameterSymbol] = field(default_factory=dict)
    read: Set[str] = field(default_factory=set)
    before: Any = None
    result: Any = None


class RecordingScope:
    """The scope of one block; ``tensor`` is the size of the tensor groups that sizes are filled up for."""

    def __init__(self, recorded: Recorded, ops: CountingOps, dropouts: Set[str], tensor: int) -> None:
        self.ops, self.training, self.decoding = ops, True, None
        self.scored: Tuple[str, ...] = ()
        self._recorded, self._dropouts = recorded, dropouts
        self._declared: Dict[str, ParameterSpec] = {spec.name: spec for spec in recorded.block.parameters}
        self._tensor = tensor

    def parameter(self, name: str) -> ParameterSymbol:
        spec = self._declared.get(name)
        if spec is None:
            raise ConformanceError(
                f"it takes the parameter '{name}', which it does not declare{did_you_mean(name, self._declared)}: add "
                "a ParameterSpec of this name to its 'parameters'"
            )
        made = self._recorded.taken.get(name)
        if made is None:
            made = self._recorded.taken[name] = ParameterSymbol(name, physical_shape(spec, self._tensor))
        return made

    def constant(
        self, name: str, make: Callable[[], Any], tensor_dim: Optional[int] = None, vocabulary: bool = False
    ) -> Symbol:
        array = make()
        return Symbol(self.ops, array.shape, "float" if array.dtype.kind == "f" else "int")

    def dropout(self, name: str, p: float, shape: Sequence[int], split: bool = False) -> Callable[..., Symbol]:
        need(name not in self._dropouts, f"two dropouts are called '{name}', and would drop the same: name each place")
        self._dropouts.add(name)

        def drop(x: Symbol, seeds: Optional[Symbol]) -> Symbol:
            need(
                x.shape[1:] == tuple(shape),
                f"its dropout '{name}' gets samples of {x.shape[1:]}, declared is {tuple(shape)}",
            )
            need(
                seeds is None or seeds.shape[1:] == (2,),
                f"its dropout '{name}' is not keyed by the field DROPOUT_SEEDS: call it as drop(x, fields[...])",
            )
            if p == 0 or seeds is None:
                return x
            self.ops.keep(Symbol(self.ops, x.shape))
            return Symbol(self.ops, x.shape)

        return drop


class Fields(Mapping[str, Any]):
    """The fields of a batch, as the block gets them that has ``inputs``."""

    def __init__(self, values: Mapping[str, Any], recorded: Recorded, inputs: Sequence[str]) -> None:
        self._values, self._recorded, self._inputs = values, recorded, inputs

    def __getitem__(self, name: str) -> Any:
        need(
            name in self._inputs,
            f"it reads the field '{name}', which its 'inputs' do not name{did_you_mean(name, self._inputs)}: add it "
            "there",
        )
        self._recorded.read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)


def record(model: ModelSpec, fields: Mapping[str, Field], training: bool = True, tensor: int = 1) -> List[Recorded]:
    """Build the blocks and run a batch through them. Raises ``ConformanceError``."""
    ops = CountingOps()
    dropouts: Set[str] = set()
    values = {
        name: Symbol(ops, (SAMPLES, *one.shape), "float" if one.dtype == "float32" else "int")
        for name, one in known_fields(fields).items()
    }
    if not training:
        values[DROPOUT_SEEDS] = None  # type: ignore[assignment]
    found: Dict[str, Recorded] = {}
    built: Dict[str, Any] = {}
    for block in model.blocks:
        found[block.name] = Recorded(block)
        scope = RecordingScope(found[block.name], ops, dropouts, tensor)
        scope.training, scope.scored = training, () if training else tuple(model.scores)
        built[block.name] = _named(block, "built", partial(block.build, scope))
    hidden: Any = None
    for block in model.blocks:
        mine = found[block.name]
        if block.borrow is not None:
            owner = found[block.borrow.owner]
            part: Any = getattr(built[block.borrow.owner], block.borrow.part, None)
            need(
                part is not None,
                f"block '{block.name}' borrows '{block.borrow.part}' of '{owner.block.name}', which builds no such "
                f"attribute",
            )
            ops.tally = Tally()
            hidden = _named(owner.block, "borrowed", partial(part, values[block.borrow.field]))
        mine.before, ops.tally = hidden, mine.tally
        given, call = Fields(values, mine, block.inputs), built[block.name]
        hidden = mine.result = _named(block, "called", partial(call, hidden, given))
    return list(found.values())


def _named(block: Block, how: str, action: Callable[[], Any]) -> Any:
    """Do ``action``; what it raises names the block."""
    try:
        return action()
    except ConformanceError as error:
        raise ConformanceError(f"block '{block.name}': {error}") from error
    except Exception as error:
        raise ConformanceError(
            f"block '{block.name}' fails when it is {how}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def elements(tensor: Any) -> int:
    """How many numbers a hidden state has; 0 of what is none."""
    return tensor.size if isinstance(tensor, Symbol) else 0


def shape_of(value: Any) -> Tuple[int, ...]:
    return getattr(value, "shape", ())
