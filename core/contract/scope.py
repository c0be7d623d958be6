"""What a block is written against: its parameters, constants and operations, whatever engine runs it.

``Block.build(scope)`` returns a plain object that is called as ``block(hidden, fields)``. It takes all it needs from
``scope`` while it is built, and computes with ``scope.ops`` and the arithmetic of ``Tensor`` when it is called; it
imports no engine. Float tensors are float32, ids int32. Activations and fields have samples along dimension 0.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Sequence, Tuple, Union

import numpy as np


class Tensor(Protocol):
    """A tensor of the engine, with the arithmetic that all of them have. ``reshape`` may have one size of -1."""

    @property
    def shape(self) -> Tuple[int, ...]:
        """Return the sizes of its dimensions."""

    def reshape(self, *shape: int) -> "Tensor":
        """Return the same numbers in another shape."""

    def permute(self, *dims: int) -> "Tensor":
        """Return it with its dimensions in the order ``dims``."""

    def sum(self, dim: Optional[int] = None) -> "Tensor":
        """Return the sum over one dimension, or over all."""

    def __add__(self, other: Any) -> "Tensor":
        """Add a number or a tensor of the same shape (a dimension of size 1 is repeated)."""

    def __sub__(self, other: Any) -> "Tensor":
        """Subtract, as ``+`` adds."""

    def __mul__(self, other: Any) -> "Tensor":
        """Multiply, as ``+`` adds."""

    def __eq__(self, other: Any) -> Any:
        """Compare elements; ``Ops.to_float`` makes numbers of the result."""


class Parameter(Protocol):
    """Stand for a parameter where a block hands it to an operation of ``Ops``; it has no arithmetic of its own."""

    name: str
    #: Its shape, filled up for tensor parallelism where the size did not divide.
    shape: Tuple[int, ...]


#: What an operation takes as a weight, bias or table: a parameter, or what was computed of one.
Weight = Union[Parameter, Tensor]
#: Drop a share of the values ``(batch, ...)``, keyed by the field ``DROPOUT_SEEDS``.
DropoutFunction = Callable[[Tensor, Optional[Tensor]], Tensor]


class Ops(Protocol):
    """The operations, each with its gradient. Shapes: N = rows, I = inputs, O = outputs, H = width, B = batch.

    Over a tensor group (Shoeybi et al. 2019) ``column_linear``, ``row_linear``, ``lookup`` and the ``vocabulary_``
    operations split their work; elsewhere they are the plain ones.
    """

    #: Largest magnitude of an additive attention mask: exp of it is 0 in float32.
    MASKED: float

    def use(self, parameter: Weight) -> Tensor:
        """Return a parameter as a tensor, for arithmetic."""

    def linear(self, x: Tensor, weight: Weight, bias: Optional[Weight]) -> Tensor:
        """Return ``x weight^T + bias``, or without a bias: ``(N, I), (O, I), (O,) -> (N, O)``."""

    def into_group(self, x: Tensor) -> Tensor:
        """Return ``x`` as the whole input of ``column_linear`` or a ``vocabulary_`` operation."""

    def column_linear(self, x: Tensor, weight: Weight, bias: Optional[Weight]) -> Tensor:
        """Compute ``linear`` with the outputs split over the tensor group; ``x`` is from ``into_group``."""

    def row_linear(self, x: Tensor, weight: Weight, bias: Weight) -> Tensor:
        """Compute ``linear`` with the inputs split over the tensor group; the result is whole."""

    def add_row(self, x: Tensor, row: Weight) -> Tensor:
        """Add a row to each row: ``(N, H) + (H,)``."""

    def layer_norm(self, x: Tensor, weight: Weight, bias: Weight, eps: float) -> Tensor:
        """Normalise each row of ``(N, H)`` (Ba et al. 2016, biased variance)."""

    def lookup(self, table: Weight, ids: Tensor, untrained: Optional[int] = None) -> Tensor:
        """Return rows of a table whose rows are split over the tensor group: ``(V, H), (B, L) -> (B, L, H)``.

        The row of the id ``untrained`` gets no gradient by it.
        """

    def gather(self, table: Weight, ids: Tensor, untrained: Optional[int] = None) -> Tensor:
        """Return rows of a table that every rank has whole: ``(V, H), (N,) -> (N, H)``; ``untrained`` as in
        ``lookup``."""

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, drop: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Compute scaled dot-product attention (Vaswani et al. 2017): queries ``(B, heads, Q, D)``, keys and values
        ``(B, heads, K, D)``.

        ``mask`` is added to the scores (a dimension of size 1 is repeated), ``drop`` applied to the probabilities, both
        ``(B, heads, Q, K)``.
        """

    def activation(self, name: str, x: Tensor) -> Tensor:
        """Apply one of ``core.contract.layers.ACTIVATIONS``."""

    def tanh(self, x: Tensor) -> Tensor:
        """Return the hyperbolic tangent."""

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply the matrices of the last two dimensions; those before are the same in both."""

    def narrow(self, x: Tensor, dim: int, start: int, length: int) -> Tensor:
        """Return ``length`` entries from ``start`` along a dimension."""

    def concat(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        """Put tensors in a row along a dimension, which is not that of the samples."""

    def one_hot(self, ids: Tensor, size: int) -> Tensor:
        """Return ``(..., size)`` with 1 at each id and 0 elsewhere."""

    def clamp(self, ids: Tensor, low: int, high: int) -> Tensor:
        """Bound ids to ``low .. high``."""

    def cumsum(self, x: Tensor, dim: int) -> Tensor:
        """Return the running sum along a dimension."""

    def to_ids(self, x: Tensor) -> Tensor:
        """Return whole numbers that are float32 as ids."""

    def to_float(self, x: Tensor) -> Tensor:
        """Return ids or the result of a comparison as float32."""

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return ``-log softmax(logits)[label]``: ``(N, C), (N,) -> (N,)``."""

    def argmax(self, logits: Tensor) -> Tensor:
        """Return the class with the largest of ``(N, C)``, the first of equal ones: ``(N,)``."""

    def vocabulary_cross_entropy(self, x: Tensor, weight: Weight, bias: Optional[Weight], labels: Tensor) -> Tensor:
        """Compute ``cross_entropy(linear(x, weight, bias), labels)``, the classes split over the tensor group."""

    def vocabulary_loss(
        self,
        x: Tensor,
        weight: Weight,
        bias: Optional[Weight],
        labels: Tensor,
        weights: Tensor,
        chunks: Sequence[Tuple[int, int]],
    ) -> Tensor:
        """Return the sum of ``vocabulary_cross_entropy`` at all positions, each times its weight: ``(B, L, H)``,
        labels and weights ``(B, L)``; for training.

        No more logits exist at once, in the backward pass neither, than those of one of ``chunks``, runs
        ``(start, positions)`` of each sample. ``weights`` get no gradient.
        """

    def vocabulary_argmax(self, x: Tensor, weight: Weight, bias: Optional[Weight]) -> Tensor:
        """Compute ``argmax(linear(x, weight, bias))``, the classes split over the tensor group."""


class Decoding(Protocol):
    """What a block computes by while sequences grow token by token (``Program.decoder``).

    B sequences get L new tokens each, which makes K with those before. Hidden states are those of the new ones alone;
    in ``mask`` is all there is to attention: order, padding, and which document a token is of.
    """

    #: The positions of the new tokens in their sequences, int32 ``(B, L)``.
    positions: Tensor
    #: To be added to the scores of the new tokens with all of them, float32 ``(B, 1, L, K)``.
    mask: Tensor

    def keep(self, name: str, x: Tensor, dim: int) -> Tensor:
        """Return what was kept as ``name`` (unique in the model) with ``x`` behind it along ``dim``, and keep that."""


class Scope(Protocol):
    """What ``Block.build`` is given."""

    ops: Ops
    #: False in evaluation; read it when the block is called, not when it is built.
    training: bool
    #: The outputs per sample that are asked for, by name, and none in training; read it when the block is called.
    scored: Tuple[str, ...]
    #: Set while sequences are decoded, ``None`` else; read it when the block is called.
    decoding: Optional[Decoding]

    def parameter(self, name: str) -> Parameter:
        """Return the parameter that the block declares as ``name``."""

    def constant(
        self, name: str, make: Callable[[], np.ndarray], tensor_dim: Optional[int] = None, vocabulary: bool = False
    ) -> Tensor:
        """Return ``make()`` as a tensor, one for each ``name``; over a tensor group split along ``tensor_dim``.

        ``vocabulary`` says that this dimension counts the words, as ``ParameterSpec.vocabulary`` does: it lies as such
        parameters do.
        """

    def dropout(self, name: str, p: float, shape: Sequence[int], split: bool = False) -> DropoutFunction:
        """Return dropout at the place ``name`` (unique in the model) of activations ``(batch, *shape)``.

        ``split``: over a tensor group they are split along the first dimension of ``shape`` (attention heads).
        """


#: What ``Block.build`` returns: called with the hidden state of the block before (or what it borrows, or ``None``) and
#: the fields by name, it returns the next hidden state, the last one a dict of the model's outputs.
BuiltBlock = Callable[[Optional[Tensor], Mapping[str, Tensor]], Union[Tensor, Dict[str, Tensor]]]
