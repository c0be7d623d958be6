"""Tensors without values, and the operations of ``scope.ops`` on them: shapes are checked, work and memory counted.

What is counted: products, a multiply-add as 2 (a product with one-hot rows is a look-up, and free); and the float32
numbers that a backward pass needs again: inputs of products, of activations and of norms, attention's probabilities,
what dropout drew. What two operations keep counts once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from pipeloom.core.contract.layers import ACTIVATIONS
from pipeloom.testing.check import ConformanceError, need

Shape = Tuple[int, ...]
BYTES = 4


@dataclass
class Tally:
    """What one block does: ``flops`` of its forward pass, the bytes it keeps by what holds them."""

    flops: float = 0.0
    kept: Dict["Storage", float] = field(default_factory=dict)

    @property
    def kept_bytes(self) -> float:
        return sum(self.kept.values())


class Storage:
    """What holds the numbers of a tensor, and of those that are it in another shape."""


class Symbol:
    """A tensor of ``shape``; ``kind`` is ``"float"``, ``"int"`` or ``"bool"``. ``one_hot``: its rows choose."""

    __hash__ = object.__hash__

    def __init__(self, ops: "CountingOps", shape: Sequence[int], kind: str = "float", one_hot: bool = False) -> None:
        self.ops, self._shape, self.kind, self.one_hot = ops, tuple(map(int, shape)), kind, one_hot
        self.storage = Storage()

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def size(self) -> int:
        return math.prod(self._shape)

    def _again(self, shape: Sequence[int]) -> "Symbol":
        other = Symbol(self.ops, shape, self.kind, self.one_hot)
        other.storage = self.storage
        return other

    def reshape(self, *shape: int) -> "Symbol":
        sizes = list(shape)
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) == 1 and known and self.size % known == 0:
            sizes[sizes.index(-1)] = self.size // known
        need(math.prod(sizes) == self.size and min(sizes, default=0) >= 0, f"it reshapes {self._shape} to {shape}")
        return self._again(sizes)

    def permute(self, *dims: int) -> "Symbol":
        need(sorted(dims) == list(range(len(self._shape))), f"it permutes {self._shape} by {dims}")
        return self._again([self._shape[dim] for dim in dims])

    def sum(self, dim: Optional[int] = None) -> "Symbol":
        if dim is None:
            return Symbol(self.ops, ())
        need(-len(self._shape) <= dim < len(self._shape), f"it sums {self._shape} over the dimension {dim}")
        return Symbol(self.ops, [size for place, size in enumerate(self._shape) if place != dim % len(self._shape)])

    def _with(self, other: Any, sign: str) -> "Symbol":
        if not isinstance(other, Symbol):
            need(isinstance(other, (int, float)), f"it computes tensor {sign} {type(other).__name__}: {_USE}")
            return Symbol(self.ops, self._shape, self.kind if isinstance(other, int) else "float")
        return Symbol(self.ops, _broadcast(self._shape, other._shape, sign), self.kind)

    def __add__(self, other: Any) -> "Symbol":
        return self._with(other, "+")

    def __sub__(self, other: Any) -> "Symbol":
        return self._with(other, "-")

    def __mul__(self, other: Any) -> "Symbol":
        if isinstance(other, Symbol):
            self.ops.keep(self, other)
        return self._with(other, "*")

    __radd__, __rsub__, __rmul__ = __add__, __sub__, __mul__

    def __eq__(self, other: Any) -> Any:
        result = self._with(other, "==")
        result.kind = "bool"
        return result


_USE = "a parameter has no arithmetic of its own, take scope.ops.use(parameter)"


class ParameterSymbol:
    """A parameter as ``scope.parameter`` gives it: a name and a shape, for operations alone."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name, self.shape, self.used = name, tuple(shape), False


def _broadcast(one: Shape, other: Shape, sign: str) -> Shape:
    width = max(len(one), len(other))
    pairs = list(zip((1,) * (width - len(one)) + one, (1,) * (width - len(other)) + other))
    need(all(a == b or 1 in (a, b) for a, b in pairs), f"it computes {one} {sign} {other}, whose sizes do not agree")
    return tuple(max(pair) if 0 not in pair else 0 for pair in pairs)


class CountingOps:
    """The operations of ``core/contract/scope.py``. ``tally`` is that of the block that computes."""

    MASKED = -10000.0

    def __init__(self) -> None:
        self.tally = Tally()

    def keep(self, *tensors: Any) -> None:
        """Note that a backward pass needs these again; parameters are there anyway."""
        for tensor in tensors:
            if isinstance(tensor, Symbol) and tensor.kind == "float":
                self.tally.kept[tensor.storage] = BYTES * tensor.size

    def _float(self, shape: Sequence[int]) -> Symbol:
        return Symbol(self, shape)

    def _take(self, operation: str, tensor: Any, kind: str = "float", dims: Optional[int] = None) -> Shape:
        """The shape of an operand; a parameter counts as used."""
        if isinstance(tensor, ParameterSymbol):
            tensor.used = True
        else:
            need(isinstance(tensor, Symbol), f"{operation} gets {type(tensor).__name__}, not a tensor")
            need(tensor.kind == kind, f"{operation} gets a tensor of {tensor.kind}, it takes {kind}")
        need(dims is None or len(tensor.shape) == dims, f"{operation} gets {tensor.shape}, not {dims} dimensions")
        return tensor.shape

    # --- products

    def linear(self, x: Any, weight: Any, bias: Any, operation: str = "linear") -> Symbol:
        rows, inner = self._take(operation, x, dims=2)
        out, into = self._take(operation, weight, dims=2)
        width = (out,) if bias is None else self._take(operation, bias, dims=1)
        need(
            inner == into and width == (out,),
            f"{operation} of x {x.shape} with the weight {weight.shape} and a bias of {width}: they are (N, I), "
            "(O, I), (O,)",
        )
        self.tally.flops += 2.0 * rows * inner * out
        self.keep(x)
        return self._float((rows, out))

    def column_linear(self, x: Any, weight: Any, bias: Any) -> Symbol:
        return self.linear(x, weight, bias, "column_linear")

    def row_linear(self, x: Any, weight: Any, bias: Any) -> Symbol:
        return self.linear(x, weight, bias, "row_linear")

    def matmul(self, a: Any, b: Any) -> Symbol:
        one, other = self._take("matmul", a), self._take("matmul", b)
        fits = len(one) == len(other) >= 2 and one[:-2] == other[:-2] and one[-1] == other[-2]
        need(fits, f"matmul of {one} and {other}: (..., I, J) and (..., J, K)")
        if not (a.one_hot or b.one_hot):
            self.tally.flops += 2.0 * math.prod(one) * other[-1]
        self.keep(a, b)
        return self._float((*one[:-1], other[-1]))

    def attention(self, query: Any, key: Any, value: Any, mask: Any, drop: Callable, **options: Any) -> Symbol:
        shapes = [self._take("attention", one, dims=4) for one in (query, key, value)]
        (batch, heads, rows, width), keys = shapes[0], shapes[1][2]
        need(
            shapes[1] == (batch, heads, keys, width) and shapes[2][:3] == (batch, heads, keys),
            f"attention of query, key, value {shapes}: each is (B, heads, L, D)",
        )
        scores = self._float((batch, heads, rows, keys))
        if mask is not None:
            _broadcast(scores.shape, self._take("attention's mask", mask), "+ mask")
        self.tally.flops += 2.0 * scores.size * (width + shapes[2][3])
        dropped = drop(scores)
        need(dropped.shape == scores.shape, f"attention's 'drop' makes {dropped.shape} of {scores.shape}")
        self.keep(query, key, value, scores, dropped)
        return self._float((batch, heads, rows, shapes[2][3]))

    def vocabulary_cross_entropy(self, x: Any, weight: Any, bias: Any, labels: Any, **options: Any) -> Symbol:
        logits = self.linear(x, weight, bias, "vocabulary_cross_entropy")
        return self.cross_entropy(logits, labels)

    def vocabulary_loss(self, x: Any, weight: Any, bias: Any, labels: Any, weights: Any, chunks: Any) -> Symbol:
        batch, length, width = shape = self._take("vocabulary_loss", x, dims=3)
        got = self._take("vocabulary_loss", labels, "int"), self._take("vocabulary_loss", weights)
        need(
            got == (shape[:2], shape[:2]),
            f"vocabulary_loss of {shape} with labels and weights {got}: they are (B, L, H), (B, L), (B, L)",
        )
        need(
            [start for start, _ in chunks] == [0, *(start + count for start, count in chunks)][:-1]
            and sum(count for _, count in chunks) == length,
            f"vocabulary_loss in the chunks {chunks}: they are not the {length} positions in a row",
        )
        kept = dict(self.tally.kept)
        self.linear(x.reshape(batch * length, width), weight, bias, "vocabulary_loss")
        self.tally.kept = kept
        self.keep(self._float(shape))  # the gradient of x, which is made at once
        return self._float(())

    def vocabulary_argmax(self, x: Any, weight: Any, bias: Any) -> Symbol:
        return self.argmax(self.linear(x, weight, bias, "vocabulary_argmax"))

    # --- look-ups

    def lookup(self, table: Any, ids: Any, untrained: Optional[int] = None) -> Symbol:
        _, width = self._take("lookup", table, dims=2)
        return self._float((*self._take("lookup", ids, "int"), width))

    def gather(self, table: Any, ids: Any, untrained: Optional[int] = None) -> Symbol:
        _, width = self._take("gather", table, dims=2)
        return self._float((*self._take("gather", ids, "int", dims=1), width))

    def one_hot(self, ids: Any, size: int) -> Symbol:
        return Symbol(self, (*self._take("one_hot", ids, "int"), size), one_hot=True)

    def clamp(self, ids: Any, low: int, high: int) -> Symbol:
        return Symbol(self, self._take("clamp", ids, "int"), "int")

    def narrow(self, x: Any, dim: int, start: int, length: int) -> Symbol:
        shape = list(self._take("narrow", x, x.kind))
        need(
            0 <= dim < len(shape) and 0 <= start and start + length <= shape[dim],
            f"narrow of {tuple(shape)} takes {length} from {start} on along the dimension {dim}",
        )
        shape[dim] = length
        return Symbol(self, shape, x.kind)

    def concat(self, parts: Sequence[Any], dim: int) -> Symbol:
        shapes = [list(self._take("concat", part, part.kind)) for part in parts]
        need(shapes and 0 < dim < len(shapes[0]), f"concat of {len(shapes)} tensors along the dimension {dim}")
        rest = [shape[:dim] + shape[dim + 1 :] for shape in shapes]
        need(rest.count(rest[0]) == len(rest), f"concat along {dim} of {shapes}: their other sizes must agree")
        return Symbol(
            self, [*shapes[0][:dim], sum(shape[dim] for shape in shapes), *shapes[0][dim + 1 :]], parts[0].kind
        )

    # --- by element and by row

    def use(self, parameter: Any) -> Symbol:
        return self._float(self._take("use", parameter))

    def into_group(self, x: Any) -> Any:
        self._take("into_group", x)
        return x

    def add_row(self, x: Any, row: Any) -> Symbol:
        shape = self._take("add_row", x, dims=2)
        need(self._take("add_row", row) == shape[1:], f"add_row of {shape} and {row.shape}: they are (N, H), (H,)")
        return self._float(shape)

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: float) -> Symbol:
        shape = self._take("layer_norm", x, dims=2)
        sizes = self._take("layer_norm", weight), self._take("layer_norm", bias)
        need(sizes == (shape[1:], shape[1:]), f"layer_norm of {shape} with {sizes}: they are (N, H), (H,), (H,)")
        self.keep(x)
        return self._float(shape)

    def activation(self, name: str, x: Any) -> Symbol:
        need(name in ACTIVATIONS, f"there is no activation '{name}': one of {', '.join(ACTIVATIONS)}")
        self.keep(x)
        return self._float(self._take("activation", x))

    def tanh(self, x: Any) -> Symbol:
        result = self._float(self._take("tanh", x))
        self.keep(result)
        return result

    def to_float(self, x: Any) -> Symbol:
        return self._float(self._take("to_float", x, x.kind))

    def to_ids(self, x: Any) -> Symbol:
        return Symbol(self, self._take("to_ids", x), "int")

    def cumsum(self, x: Any, dim: int) -> Symbol:
        shape = self._take("cumsum", x, x.kind)
        need(-len(shape) <= dim < len(shape), f"cumsum of {shape} along the dimension {dim}")
        return Symbol(self, shape, x.kind)

    def cross_entropy(self, logits: Any, labels: Any) -> Symbol:
        rows, _ = self._take("cross_entropy", logits, dims=2)
        got = self._take("cross_entropy", labels, "int")
        need(got == (rows,), f"cross_entropy of {logits.shape} with labels {got}: they are (N, C), (N,)")
        self.keep(logits)
        return self._float((rows,))

    def argmax(self, logits: Any) -> Symbol:
        return Symbol(self, self._take("argmax", logits, dims=2)[:1], "int")

    def __getattr__(self, name: str) -> Any:
        raise ConformanceError(f"it uses scope.ops.{name}, which no engine has (core/contract/scope.py lists them)")
