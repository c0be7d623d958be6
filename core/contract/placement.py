"""Which ranks hold which stage, and the hops that OneFlow will really make between them.

OneFlow sorts the ranks of a placement and pairs neighbouring stages by sorted position. So a stage is a
*set* of ranks, the only freedom is how many ranks of each node it holds, and hops are computed from the
sorted order, not from any order that was intended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.topology import Cluster


@dataclass(frozen=True)
class Hop:
    """One rank sending its hidden states to its partner in the next stage."""

    stage: int
    source: int
    target: int
    crosses_nodes: bool


@dataclass(frozen=True)
class Placement:
    """``stages[s]`` is the sorted tuple of ranks that hold stage ``s``."""

    cluster: Cluster
    stages: Tuple[Tuple[int, ...], ...]

    @classmethod
    def of(cls, cluster: Cluster, stages: Sequence[Sequence[int]]) -> "Placement":
        """A placement from any sets of ranks.

        Raises ``UsageError`` unless every rank of the cluster is used once and all stages are of one size.
        """
        placed = cls(cluster, tuple(tuple(sorted(ranks)) for ranks in stages))
        ranks = sorted(rank for stage in placed.stages for rank in stage)
        if ranks != list(range(cluster.size)):
            raise UsageError(f"a placement must use each of the ranks 0..{cluster.size - 1} once, not {ranks}")
        if len({len(stage) for stage in placed.stages}) != 1:
            raise UsageError(f"all stages must have the same number of ranks, not {[len(s) for s in placed.stages]}")
        return placed

    def stage_of(self, rank: int) -> int:
        return next(s for s, ranks in enumerate(self.stages) if rank in ranks)

    def hops(self) -> List[Hop]:
        """Every hop of a micro-batch on its way forward, paired as the engine pairs them."""
        node = self.cluster.node_of
        return [
            Hop(s, a, b, node(a) != node(b))
            for s, (here, there) in enumerate(zip(self.stages, self.stages[1:]))
            for a, b in zip(here, there)
        ]

    def tensor_groups(self, tensor: int) -> List[Tuple[int, ...]]:
        """The groups of ``tensor`` ranks that share each layer: neighbours in a stage, as the engine takes them."""
        return [ranks[first : first + tensor] for ranks in self.stages for first in range(0, len(ranks), tensor)]

    def nodes_of_stages(self) -> List[int]:
        """On how many nodes each stage lies, and with it its data-parallel groups."""
        return [len({self.cluster.node_of(rank) for rank in ranks}) for ranks in self.stages]

    def summary(self) -> str:
        """``"hops 2 between nodes, 0 inside; all-reduce inside nodes"``."""
        crossing = sum(hop.crosses_nodes for hop in self.hops())
        spread = max(self.nodes_of_stages())
        if len(self.stages[0]) == 1:
            reduce = "no data parallelism"
        else:
            reduce = (
                "gradients all-reduced inside nodes" if spread == 1 else f"gradients all-reduced across {spread} nodes"
            )
        return f"pipeline hops: {crossing} between nodes, {len(self.hops()) - crossing} inside; {reduce}"

    def grid(self) -> str:
        """The placement as lines of text, a node a line and ``stage`` in each of its ranks."""
        lines = []
        for node in range(self.cluster.nodes):
            first = node * self.cluster.devices_per_node
            cells = [
                f"rank {rank}: stage {self.stage_of(rank)}"
                for rank in range(first, first + self.cluster.devices_per_node)
            ]
            lines.append(f"node {node} | " + " | ".join(cells) + " |")
        return "\n".join(lines)
