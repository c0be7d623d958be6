"""What a model plugin gives: blocks with their parameters and costs, and what makes up the loss.

Nothing here imports oneflow: a layout can be planned and checked before the engine starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.weight_adapter import WeightAdapter

if TYPE_CHECKING:
    from pipeloom.core.contract.dataset import Field

#: Fields that the core itself provides to a block that asks for them: two int32 per sample that key the dropout masks
#: (``None`` in evaluation, where nothing is dropped), and one float32 per sample, its share of the whole: 1 / global
#: batch, in evaluation 1 / held-out samples.
DROPOUT_SEEDS = "dropout_seeds"
SAMPLE_WEIGHT = "sample_weight"
#: What the last block returns while sequences are decoded: the logits of the token after the last one, ``(B, V)``.
NEXT_LOGITS = "next_logits"


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: its name in HuggingFace's layout, shape, and initial distribution.

    ``init`` is ``"normal"`` (mean 0, standard deviation ``std``), ``"zeros"``, ``"ones"`` or what a plugin adds by
    the hook ``pipeloom_initial_distributions``. ``decay`` says whether weight decay applies (not to biases and
    LayerNorm). ``tensor_dim`` is the dimension along which tensor parallelism splits it, ``None`` for one that every
    rank of a tensor group has whole. A size that does not divide is filled up with zeros, which the block must keep
    from having an effect. ``products`` and
    ``lookups``: in how many matrix products, and in how many other ways, a forward pass uses it; with
    ``--shard parameters`` each use gathers it (a product again in the backward pass). ``vocabulary``: its dimension 0,
    which is its ``tensor_dim``, counts the words; ``--shard vocabulary`` splits it over the data-parallel ranks.
    """

    name: str
    shape: Tuple[int, ...]
    init: str = "normal"
    std: float = 0.02
    decay: bool = True
    tensor_dim: Optional[int] = None
    products: int = 1
    lookups: int = 0
    vocabulary: bool = False

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def physical_shape(spec: ParameterSpec, tensor: int) -> Tuple[int, ...]:
    """``spec.shape`` with its tensor dimension filled up to a multiple of ``tensor``; what is filled in is 0."""
    if spec.tensor_dim is None or tensor == 1:
        return spec.shape
    return tuple(-(-size // tensor) * tensor if dim == spec.tensor_dim else size for dim, size in enumerate(spec.shape))


def splits_vocabulary(spec: ParameterSpec, shard: str, data: int, tensor: int) -> bool:
    """Return whether ``--shard`` splits the words of a parameter over ``data`` ranks, each of which computes with its
    own. A tensor group has split them already."""
    return shard == "vocabulary" and spec.vocabulary and data > 1 and tensor == 1


def shard_dim(spec: ParameterSpec, data: int, tensor: int) -> Optional[int]:
    """The dimension along which ``--shard`` spreads a parameter over ``data`` ranks: the first that they divide and
    that tensor parallelism leaves alone; ``None`` where there is none, and it stays whole."""
    if data == 1:
        return None
    free = (
        dim for dim, size in enumerate(spec.shape) if size % data == 0 and not (tensor > 1 and dim == spec.tensor_dim)
    )
    return next(free, None)


class BatchSize(NamedTuple):
    """How much is computed at once: ``samples``, and ``tokens`` of all of them together, padding included."""

    samples: float
    tokens: float

    @classmethod
    def of(cls, samples: float, seq_length: int) -> BatchSize:
        """Return the size of ``samples`` of ``seq_length`` tokens each."""
        return cls(samples, samples * seq_length)


class Amounts(NamedTuple):
    """What a block costs for a batch; ``Cost`` says what each number is."""

    flops: float
    output_bytes: float
    kept_bytes: float
    tensor_bytes: float


@dataclass(frozen=True)
class Cost:
    """State what a block costs for each token, and for each sample besides.

    ``flops``: floating-point operations of the forward pass; a multiply-add counts 2.
    ``output_bytes``: what it hands to the next block. ``kept_bytes``: what it keeps for backward.
    ``tensor_bytes``: what tensor parallelism all-reduces in forward and backward together.
    Those that end in ``_per_sample`` do not grow with the length of the sequence: a pooler, a fixed number of
    predictions.
    """

    flops: float
    output_bytes: float
    kept_bytes: float
    tensor_bytes: float = 0.0
    flops_per_sample: float = 0.0
    output_bytes_per_sample: float = 0.0
    kept_bytes_per_sample: float = 0.0
    tensor_bytes_per_sample: float = 0.0

    def of(self, batch: BatchSize) -> Amounts:
        """Return the cost of ``batch``."""
        per_token = self.flops, self.output_bytes, self.kept_bytes, self.tensor_bytes
        per_sample = (
            self.flops_per_sample,
            self.output_bytes_per_sample,
            self.kept_bytes_per_sample,
            self.tensor_bytes_per_sample,
        )
        return Amounts(*(t * batch.tokens + s * batch.samples for t, s in zip(per_token, per_sample)))


@dataclass(frozen=True)
class Borrow:
    """A block's use of a part of another block, wherever that lives: the tied word embedding.

    The attribute ``part`` of what the block ``owner`` builds is called with ``field`` on the owner's stage, and its
    output travels to the borrowing block, which receives it as its hidden state. So a table shared by the first and the
    last stage stays in one place, and batch x sequence x hidden travels instead of it. It has one parameter.

    ``copy`` is the block to use instead where that is more than the table itself: one that has the part's
    parameters too, by the same names. Parameters of one name on several stages are copies of one parameter:
    they start equal, and each is updated by the sum of their gradients (``core/planning/tied_weights.py`` chooses).
    """

    owner: str
    part: str
    field: str
    copy: "Block"


@dataclass(frozen=True)
class Block:
    """The smallest unit that a split moves.

    ``build(scope)``, called in the ranks, returns what is called as ``block(hidden, fields)`` with the fields named in
    ``inputs``, ``(batch, *shape)``. It is written against ``core/contract/scope.py`` alone and imports no engine.
    ``layer``: one of the many alike that make up the model; these are what ``--recompute`` recomputes.
    """

    name: str
    parameters: Tuple[ParameterSpec, ...]
    cost: Cost
    inputs: Tuple[str, ...]
    build: Callable[[Any], Any]
    borrow: Optional[Borrow] = None
    layer: bool = False

    @property
    def size(self) -> int:
        """Number of parameters that live in this block."""
        return sum(parameter.size for parameter in self.parameters)


class StartingWeights(Protocol):
    """Give the values that the parameters of a model start from."""

    def value(self, spec: ParameterSpec) -> Optional[np.ndarray]:
        """Return the float32 value of a parameter, of ``spec.shape``; ``None`` to draw it from its distribution."""

    def report(self) -> List[str]:
        """Return lines for the log: what starts from where."""


@dataclass(frozen=True)
class ModelSpec:
    """A model for one task.

    The last block returns a dict of scalar tensors. Each is a *sum* over the samples it saw, weighted by
    ``SAMPLE_WEIGHT`` or a field of ``normalize`` so that the sum over the whole global batch (in evaluation: over the
    whole held-out set) is the value to report. ``losses`` gives the weight of those that make up the training loss;
    ``metrics`` names those that it returns beside them in evaluation, when ``scope.training`` is false (in
    training nobody reads them). ``normalize`` names the float fields that are divided by their sum over the global
    batch before they are fed: so every token counts the same, whatever the micro-batch.

    ``huggingface`` is what ``config.json`` of a HuggingFace folder would say of the model, ``adapter`` how its
    parameters stand there, ``pipeline_tag`` what model hubs call its task. ``weights`` are those that it starts from,
    if any, and ``settings`` the options that these decide (sizes).

    In evaluation it may return outputs per sample too, ``(batch, *shape)``: ``scores`` names them with their shapes.
    ``labels`` are the fields that the losses and metrics alone need; where samples have none the block is fed zeros,
    and only its outputs count.

    ``decoded`` names the fields that the blocks read of new tokens while sequences grow (``Scope.decoding``); the last
    one then returns ``{NEXT_LOGITS: ...}``. Empty for a model that cannot go on with a text.
    """

    name: str
    task: str
    blocks: Tuple[Block, ...]
    losses: Mapping[str, float]
    metrics: Tuple[str, ...] = ()
    normalize: Tuple[str, ...] = ()
    scores: Mapping[str, Tuple[int, ...]] = field(default_factory=dict)
    labels: Tuple["Field", ...] = ()
    decoded: Tuple[str, ...] = ()
    sizes: Mapping[str, Any] = None  # type: ignore[assignment]
    huggingface: Optional[Mapping[str, Any]] = None
    adapter: WeightAdapter = WeightAdapter()
    pipeline_tag: Optional[str] = None
    weights: Optional[StartingWeights] = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Tuple[ParameterSpec, ...]:
        """Each parameter once, also one that two blocks hold copies of."""
        by_name = {parameter.name: parameter for block in self.blocks for parameter in block.parameters}
        return tuple(by_name.values())

    @property
    def size(self) -> int:
        """Number of parameters of the whole model; one that two blocks share counts once."""
        return sum(parameter.size for parameter in self.parameters)

    @property
    def outputs(self) -> Tuple[str, ...]:
        """Names of what the last block returns in training, in the order in which they are packed."""
        return tuple(self.losses)

    @property
    def evaluated(self) -> Tuple[str, ...]:
        """Names of what it returns in evaluation, in that order."""
        return (*self.losses, *self.metrics)

    def flops(self, batch: BatchSize) -> float:
        """Return those of a step, forward and backward: ``3 x`` forward, for backward computes two products for each
        one."""
        return 3 * sum(block.cost.of(batch).flops for block in self.blocks)

    def stage_blocks(self, split: Sequence[int]) -> Tuple[Tuple[Block, ...], ...]:
        """Return the blocks of each stage for a partition given as counts."""
        stages, start = [], 0
        for count in split:
            stages.append(self.blocks[start : start + count])
            start += count
        return tuple(stages)


def stage_inputs(blocks: Sequence[Block], all_blocks: Sequence[Block]) -> Tuple[str, ...]:
    """The fields that a stage with ``blocks`` must load, in a fixed order.

    A borrowed part runs on its owner's stage, so its field is loaded there and not by the borrower.
    """
    names = [name for block in blocks for name in block.inputs]
    here = {block.name for block in blocks}
    names += [b.borrow.field for b in all_blocks if b.borrow is not None and b.borrow.owner in here]
    return tuple(sorted(dict.fromkeys(names)))


def index_by_name(blocks: Sequence[Block]) -> Dict[str, int]:
    """Position of each block by its name."""
    return {block.name: position for position, block in enumerate(blocks)}
