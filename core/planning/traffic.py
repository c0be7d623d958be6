"""What a layout makes its ranks send each other in one step: bytes by pair of ranks, and why.

Counted from the plan alone, from the hops that the engine really makes; nothing is measured here
(``benchmarks/bytes_over_link.py`` compares with a real link).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, Sequence, Tuple

from pipeloom.core.contract.blocks import BatchSize, ModelSpec, ParameterSpec, shard_dim, splits_vocabulary
from pipeloom.core.contract.placement import Placement

#: ``{(from, to): bytes}``; between ranks, or between nodes.
Bytes = Dict[Tuple[int, int], float]

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Traffic:
    """Bytes of one step by reason. ``hidden``: states forward, their gradients back. ``shared``: what a weight
    that two stages share costs. ``gradients``: the all-reduce of each data-parallel group. ``tensor``: what
    tensor groups all-reduce inside their layers."""

    hidden: Bytes = field(default_factory=dict)
    shared: Bytes = field(default_factory=dict)
    gradients: Bytes = field(default_factory=dict)
    tensor: Bytes = field(default_factory=dict)

    def parts(self) -> Dict[str, Bytes]:
        return {"hidden": self.hidden, "shared": self.shared, "gradients": self.gradients, "tensor": self.tensor}

    def between_nodes(self, placement: Placement) -> "Traffic":
        """The same, node to node, without what stays inside one."""
        node_of, result = placement.cluster.node_of, Traffic()
        for name, part in self.parts().items():
            for (source, target), amount in part.items():
                _add(getattr(result, name), node_of(source), node_of(target), amount)
        return result

    def total(self, source: int, target: int) -> float:
        return sum(part.get((source, target), 0.0) for part in self.parts().values())

    def sums(self) -> Dict[str, float]:
        """Bytes of each reason, over all pairs."""
        return {name: sum(part.values()) for name, part in self.parts().items()}


def step_traffic(
    model: ModelSpec,
    split: Sequence[int],
    placement: Placement,
    batch: BatchSize,
    tensor: int = 1,
    gathers: int = 0,
    shard: str = "none",
) -> Traffic:
    """Return the traffic of a step whose global batch is ``batch``, in 4-byte floats.

    - hidden: a hop carries its share of the stage's output forward, and the gradient of that
      back. Micro-batches share it out and change nothing. The ``tensor`` ranks of a group hold the same
      states; each sends its own part of them (``carry`` in plugins/executors/oneflow/hops.py).
    - shared, borrowed: the outputs of the borrowed part go from the owner's rank to the borrower's of the
      same position, and their gradient back.
    - shared, copied (``share_copies`` in plugins/executors/oneflow/sharing.py): each rank of the copy's stage sends its
      share of the copy's gradient to the rank of the same position on the owner's stage, and gets the sum back.
    - gradients: a ring all-reduce over d ranks (Patarasuk & Yuan 2009) passes ``2 (d - 1) / d`` x the
      parameters of a rank along each of its edges, once a step, whatever the number of micro-batches. The ranks of one
      position in their tensor groups hold the same part of each parameter and form a ring. With ``--shard optimizer``
      the same bytes go as a reduce-scatter of gradients and a gathering of parameters. With ``--shard parameters``
      (``gathers``: the micro-batches of a step, else 0) every micro-batch gathers each spread parameter for each use,
      ``(d - 1) / d`` of it along each edge, and spreads the gradient of each use.
    - tensor: the same for what the blocks of a stage all-reduce in a tensor group. With ``--shard vocabulary`` the
      data-parallel ranks do so for the blocks whose words they split, each with the samples of all (a gathering and a
      reduce-scatter send what an all-reduce does); the gradients of those parameters stay where they are.
    """
    result, stages = Traffic(), placement.stages
    width = len(stages[0])
    share = BatchSize(batch.samples / width, batch.tokens / width)
    by_stage = model.stage_blocks(split)
    for hop in placement.hops():
        _there_and_back(result.hidden, hop.source, hop.target, by_stage[hop.stage][-1].cost.of(share).output_bytes)

    stage_of = {block.name: stage for stage, blocks in enumerate(by_stage) for block in blocks}
    for block in model.blocks:
        if block.borrow is not None:
            for source, target in zip(stages[stage_of[block.borrow.owner]], stages[stage_of[block.name]]):
                _there_and_back(result.shared, source, target, block.cost.of(share).output_bytes)
    for spec, holders in copied_parameters(model, split):
        for stage in holders[:-1]:
            for source, target in zip(stages[stage], stages[holders[-1]]):
                _there_and_back(result.shared, source, target, spec.size * _FLOAT_BYTES / width)

    # What a block borrows is looked up in the owner's parameters: those that its copy would have too.
    names = {block.name: {spec.name for spec in block.parameters} for block in model.blocks}
    lent = Counter(
        spec.name
        for block in model.blocks
        if block.borrow is not None
        for spec in block.borrow.copy.parameters
        if spec.name in names[block.borrow.owner]
    )
    for ranks, blocks in zip(stages, by_stage):
        size = sum(
            _passes(spec, width // tensor, tensor, gathers, lent[spec.name])
            * (spec.size if spec.tensor_dim is None else spec.size / tensor)
            for block in blocks
            for spec in block.parameters
            if not splits_vocabulary(spec, shard, width // tensor, tensor)
        )
        words = [
            block
            for block in blocks
            if any(splits_vocabulary(spec, shard, width // tensor, tensor) for spec in block.parameters)
        ]
        _all_reduce(result.tensor, ranks, sum(block.cost.of(batch).tensor_bytes for block in words))
        for position in range(tensor):
            _all_reduce(result.gradients, ranks[position::tensor], size * _FLOAT_BYTES / 2)
        amount = sum(block.cost.of(share).tensor_bytes for block in blocks) * tensor
        for first in range(0, width if tensor > 1 else 0, tensor):
            _all_reduce(result.tensor, ranks[first : first + tensor], amount)
    return result


def _passes(spec: ParameterSpec, data: int, tensor: int, gathers: int, lent: int) -> int:
    """How often ``(d - 1) / d`` of a parameter goes along an edge in a step: 2 for an all-reduce."""
    if not gathers or shard_dim(spec, data, tensor) is None:
        return 2
    return gathers * (3 * spec.products + 2 * (spec.lookups + lent))  # a product gathers forward and backward


def copied_parameters(model: ModelSpec, split: Sequence[int]):
    """``(spec, stages that hold it)`` of each parameter that more than one stage holds; its owner is the last."""
    found: Dict[str, Tuple[object, list]] = {}
    for stage, blocks in enumerate(model.stage_blocks(split)):
        for spec in dict.fromkeys(spec for block in blocks for spec in block.parameters):
            found.setdefault(spec.name, (spec, []))[1].append(stage)
    return [(spec, holders) for spec, holders in found.values() if len(holders) > 1]


def _all_reduce(part: Bytes, ranks: Sequence[int], amount: float) -> None:
    for source, target in zip(ranks, [*ranks[1:], ranks[0]]):
        _add(part, source, target, 2 * (len(ranks) - 1) / len(ranks) * amount)


def _there_and_back(part: Bytes, source: int, target: int, amount: float) -> None:
    _add(part, source, target, amount)
    _add(part, target, source, amount)


def _add(part: Bytes, source: int, target: int, amount: float) -> None:
    if source != target and amount:
        part[source, target] = part.get((source, target), 0.0) + amount
