"""Placements for strategies: the regular ones, and an exact search for shapes that they do not fit.

A stage is a set of ranks, and by the engine's pairing only how many ranks of each node it holds matters
(``core/contract/placement.py``).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh

#: How many ranks of each node a stage holds.
Counts = Tuple[int, ...]


def crossings(here: Counts, there: Counts) -> int:
    """How many of the hops between two stages cross nodes, from their ranks per node alone."""
    nodes_here = [node for node, count in enumerate(here) for _ in range(count)]
    nodes_there = [node for node, count in enumerate(there) for _ in range(count)]
    return sum(a != b for a, b in zip(nodes_here, nodes_there))


def span(counts: Counts) -> int:
    """On how many nodes a stage with these ranks per node lies."""
    return sum(count > 0 for count in counts)


#: The search looks at no more combinations than this (a second or two); 4 nodes x 4 devices need far fewer.
_MOST_COMBINATIONS = 200_000


def by_tensor_groups(cluster: Cluster, mesh: Mesh, place: Callable[[Cluster, Mesh], Placement]) -> Placement:
    """``place`` applied to tensor groups instead of ranks: T neighbours of one node stand for one device.

    Every group then lies inside a node, and what is true of ``place`` for devices is true for groups, since the
    hops of the ranks of a group go where the group's do. Where T does not divide the devices of a node there are
    groups across nodes in any placement; ranks in order then keep each on as few as can be, or one more.
    """
    width = mesh.tensor
    if cluster.devices_per_node % width:
        return contiguous(cluster, mesh)
    groups = place(replace(cluster, devices_per_node=cluster.devices_per_node // width), Mesh(mesh.pipeline, mesh.data))
    return Placement.of(
        cluster, [[group * width + rank for group in stage for rank in range(width)] for stage in groups.stages]
    )


def contiguous(cluster: Cluster, mesh: Mesh) -> Placement:
    """Ranks in order: stage 0 takes the first ones, stage 1 the next ones.

    In every shape the sum over stages of the nodes they lie on is then as small as can be. Stages and nodes,
    joined where a stage has ranks on a node, form a graph; a connected part with a stages and c nodes has at
    least a + c - 1 joints and fills its nodes, so its ranks are a multiple of lcm(width, devices). With N
    nodes and S stages there are at least S + N - ranks / lcm joints, and here there are just as many.
    """
    width = mesh.data * mesh.tensor
    return Placement.of(cluster, [range(s * width, (s + 1) * width) for s in range(mesh.pipeline)])


def lane_by_lane(cluster: Cluster, mesh: Mesh) -> Placement:
    """Ranks in order along the pipeline: rank r holds stage r mod S, so a lane fills neighbouring ranks.

    In every shape as few hops as can be cross nodes, by the same argument with lanes (the ranks of one
    position through all stages) in the place of stages: a lane on c nodes crosses c - 1 times at the least.
    """
    stages = mesh.pipeline
    return Placement.of(cluster, [range(s, cluster.size, stages) for s in range(stages)])


def side_by_side(cluster: Cluster, mesh: Mesh) -> Placement:
    """Stages side by side inside nodes, for a number of stages that divides the devices of a node or is a
    multiple of it. A stage then takes equally many ranks of each node of its group of nodes."""
    stages, devices, width = mesh.pipeline, cluster.devices_per_node, mesh.data * mesh.tensor
    inside = min(stages, devices)  # stages that share a node
    each = devices // inside  # ranks of one stage on one node
    nodes = width // each  # nodes that a stage lies on
    return Placement.of(
        cluster,
        [
            [
                ((s // inside) * nodes + node) * devices + (s % inside) * each + rank
                for node in range(nodes)
                for rank in range(each)
            ]
            for s in range(stages)
        ],
    )


def search(cluster: Cluster, mesh: Mesh, cost: Callable[[Counts, Counts], Tuple[int, ...]]) -> Optional[Placement]:
    """The placement with the least total cost, exactly; ``None`` where the shape is too large to search.

    ``cost(previous, counts)`` is what a stage adds (``previous`` is empty for the first); tuples are
    summed item by item and compared in order. Dynamic programming over the ranks left on each node and
    the last stage's ranks per node; among equals, the one that fills the first nodes first.
    """
    width = mesh.data * mesh.tensor
    most = min(width, cluster.devices_per_node)
    if (most + 1) ** cluster.nodes > _MOST_COMBINATIONS:
        return None
    shapes = [c for c in product(range(most, -1, -1), repeat=cluster.nodes) if sum(c) == width]
    full = (cluster.devices_per_node,) * cluster.nodes
    # state: (ranks left per node, last counts) -> (total cost, order of choice, counts of all stages)
    states: Dict[Tuple[Counts, Counts], tuple] = {(full, ()): ((), (), ())}
    combinations = 0
    for _ in range(mesh.pipeline):
        combinations += len(states) * len(shapes)
        if combinations > _MOST_COMBINATIONS:
            return None
        following: Dict[Tuple[Counts, Counts], tuple] = {}
        for (left, last), (total, order, chosen) in states.items():
            for index, counts in enumerate(shapes):
                remaining = tuple(a - b for a, b in zip(left, counts))
                if min(remaining) < 0:
                    continue
                added = cost(last, counts)
                candidate = (
                    tuple(a + b for a, b in zip(total, added)) if total else tuple(added),
                    order + (index,),
                    chosen + (counts,),
                )
                key = (remaining, counts)
                if key not in following or candidate[:2] < following[key][:2]:
                    following[key] = candidate
        states = following
    best = min(states.values(), key=lambda state: state[:2])
    return _deal(cluster, best[2])


def _deal(cluster: Cluster, stage_counts: Sequence[Counts]) -> Placement:
    """Hand out each node's ranks in order, as many to each stage as its counts say."""
    following = [node * cluster.devices_per_node for node in range(cluster.nodes)]
    stages = []
    for counts in stage_counts:
        ranks: List[int] = []
        for node, count in enumerate(counts):
            ranks += range(following[node], following[node] + count)
            following[node] += count
        stages.append(ranks)
    return Placement.of(cluster, stages)
