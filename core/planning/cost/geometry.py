"""Where the groups of a layout lie: what of them crosses nodes, and how many share a node's way out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh

#: The two orders that strategies aim at: stages on neighbouring ranks, or side by side inside nodes.
INTER_FIRST, INTRA_FIRST = "inter_first", "intra_first"


@dataclass(frozen=True)
class GroupShape:
    """State where the equal groups of a collective lie: ``ranks`` of each on ``nodes`` nodes, and ``sharing``, how many
    of these groups leave the node that most of them leave."""

    ranks: int
    nodes: int = 1
    sharing: int = 1


@dataclass(frozen=True)
class Geometry:
    """State what a placement means for the networks.

    ``hops``: for each pair of neighbouring stages, how many of its hidden states' ways leave the node that most leave
    (0: all stay inside). ``data``, ``tensor``: the groups that all-reduce gradients, and those that share each layer;
    of the stage that has it worst. ``ends``: as ``hops``, between the last stage and the first.
    """

    hops: Tuple[int, ...]
    data: GroupShape
    tensor: GroupShape
    ends: int = 0

    @classmethod
    def of(cls, placement: Placement, tensor: int) -> Geometry:
        """Return the geometry of a placement with tensor groups of ``tensor`` ranks."""
        stages, node_of = placement.stages, placement.cluster.node_of
        groups = [ranks[position::tensor] for ranks in stages for position in range(tensor)]
        return cls(
            tuple(_leaving(here, there, node_of) for here, there in zip(stages, stages[1:])),
            _shape(groups, node_of),
            _shape(placement.tensor_groups(tensor), node_of),
            _leaving(stages[-1], stages[0], node_of) if len(stages) > 1 else 0,
        )

    @classmethod
    def regular(cls, cluster: Cluster, mesh: Mesh, order: str) -> Optional[Geometry]:
        """Return the geometry of a regular placement by counting alone, for clusters of any size.

        ``order`` is ``INTER_FIRST`` (neighbouring ranks) or ``INTRA_FIRST`` (stages side by side). ``None`` for shapes
        in which nodes and stages do not divide each other.
        """
        width, devices, tensor = mesh.data * mesh.tensor, cluster.devices_per_node, mesh.tensor
        if devices % tensor or (width % devices and devices % width):
            return None
        if order == INTRA_FIRST:
            if devices % (mesh.pipeline * tensor) and (mesh.pipeline * tensor) % devices:
                return None
            inside = min(mesh.pipeline, devices // tensor)  # stages side by side on a node
            lanes = devices // inside  # ranks of a stage on a node
            nodes = -(-width // lanes)
            crossing = [lanes if (stage + 1) % inside == 0 else 0 for stage in range(mesh.pipeline - 1)]
            groups = inside * tensor if nodes > 1 else 1
            return cls(
                tuple(crossing),
                GroupShape(mesh.data, nodes if mesh.data > 1 else 1, groups if mesh.data > 1 else 1),
                GroupShape(tensor),
                lanes if mesh.pipeline > inside else 0,
            )
        nodes, per_node = max(1, width // devices), max(1, devices // width)  # of a stage; stages on a node
        lanes = min(width, devices)
        crossing = [lanes if (stage + 1) % per_node == 0 else 0 for stage in range(mesh.pipeline - 1)]
        return cls(
            tuple(crossing),
            GroupShape(mesh.data, nodes, tensor if nodes > 1 else 1),
            GroupShape(tensor),
            lanes if mesh.pipeline > per_node else 0,
        )


def _leaving(here: Sequence[int], there: Sequence[int], node_of) -> int:
    sent = Counter(node_of(a) for a, b in zip(here, there) if node_of(a) != node_of(b))
    received = Counter(node_of(b) for a, b in zip(here, there) if node_of(a) != node_of(b))
    return max([0, *sent.values(), *received.values()])


def _shape(groups: Sequence[Sequence[int]], node_of) -> GroupShape:
    spans = [{node_of(rank) for rank in group} for group in groups]
    leaving = Counter(node for nodes in spans if len(nodes) > 1 for node in nodes)
    return GroupShape(len(groups[0]), max(map(len, spans)), max([1, *leaving.values()]))
