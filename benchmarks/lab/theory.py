"""What the mathematics makes cross the link in one step, from the plan alone."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

from pipeloom.core.cli import parse
from pipeloom.core.plan import Plan, make_plan

_FLOAT_BYTES = 4


@dataclass
class Crossing:
    """Bytes of one step from node to node, ``{(from, to): bytes}``, by reason."""

    hidden: Dict[Tuple[int, int], float] = field(default_factory=dict)
    tied: Dict[Tuple[int, int], float] = field(default_factory=dict)
    gradients: Dict[Tuple[int, int], float] = field(default_factory=dict)

    def total(self, source: int, target: int) -> float:
        return sum(part.get((source, target), 0.0) for part in (self.hidden, self.tied, self.gradients))


def plan_of(flags: Sequence[str], plugins: str, nproc_per_node: int = 2) -> Plan:
    """The plan that a job of two nodes with these flags has."""
    config, manager = parse(["--plugins", plugins, *flags, "--nnodes", "2", "--nproc_per_node", str(nproc_per_node)])
    return make_plan(config, manager)


def crossing(plan: Plan) -> Crossing:
    """Counts, in 4-byte floats:

    - hidden states: each hop between neighbouring stages that crosses nodes carries ``batch / data-parallel
      size x sequence x hidden`` forward, and the gradient of that back. Micro-batches share it out and
      change nothing.
    - tied: what a block borrows of another stage (the looked-up words) goes from the owner's rank to the
      borrower's of the same position, and its gradient back.
    - gradients: a ring all-reduce over d ranks (Patarasuk & Yuan 2009) passes ``2 (d - 1) / d`` x the
      parameters of the stage along each of its edges, once a step, whatever the number of micro-batches.
    """
    result, node_of = Crossing(), plan.cluster.node_of
    stages, blocks = plan.placement.stages, plan.model.blocks
    samples = plan.config.train_global_batch_size / plan.mesh.data
    tokens = samples * plan.config.seq_length
    last_of = [stage_blocks[-1] for stage_blocks in plan.model.stage_blocks(plan.split)]
    for hop in plan.placement.hops():
        _there_and_back(result.hidden, node_of(hop.source), node_of(hop.target), tokens * last_of[hop.stage].cost.output_bytes)

    stage_of = [stage for stage, count in enumerate(plan.split) for _ in range(count)]
    position = {block.name: number for number, block in enumerate(blocks)}
    for number, block in enumerate(blocks):
        if block.borrow is not None:
            owner, borrower = stage_of[position[block.borrow.owner]], stage_of[number]
            if owner != borrower:
                for source, target in zip(stages[owner], stages[borrower]):
                    _there_and_back(result.tied, node_of(source), node_of(target), tokens * block.cost.output_bytes)

    for ranks, size in zip(stages, plan.stage_parameters()):
        for source, target in zip(ranks, _rotated(ranks)):
            _add(result.gradients, node_of(source), node_of(target), 2 * (len(ranks) - 1) / len(ranks) * size * _FLOAT_BYTES)
    return result


def _rotated(ranks: Sequence[int]) -> List[int]:
    return [*ranks[1:], ranks[0]]


def _there_and_back(part: Dict[Tuple[int, int], float], source: int, target: int, amount: float) -> None:
    _add(part, source, target, amount)
    _add(part, target, source, amount)


def _add(part: Dict[Tuple[int, int], float], source: int, target: int, amount: float) -> None:
    if source != target:
        part[source, target] = part.get((source, target), 0.0) + amount
