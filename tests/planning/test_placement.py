"""Placements: the strategies against brute force, and the hops that the engine will really make."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, product
from types import SimpleNamespace

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.placement import Hop, Placement
from pipeloom.core.contract.topology import Cluster, Mesh, mesh_from_splits
from pipeloom.plugins.libraries import placement_search
from pipeloom.plugins.strategies import inter_first, intra_first

pytestmark = pytest.mark.fast

#: Of the two sums, of nodes under a data-parallel group and of hops that cross, which one counts first.
ORDER = {inter_first: ("spans", "crossings"), intra_first: ("crossings", "spans")}
#: What a brute force may take: this many placements of a shape.
LIMIT = 12_000


def place(strategy, nodes, devices, splits):
    cluster = Cluster(nodes, devices)
    return strategy.pipeloom_place(cluster=cluster, mesh=mesh_from_splits(cluster, splits), config=SimpleNamespace())


def cost(strategy, stages):
    """The cost of stages given as lists of nodes, ascending: what the engine pairs by position."""
    found = {
        "spans": sum(len(set(stage)) for stage in stages),
        "crossings": sum(a != b for here, there in zip(stages, stages[1:]) for a, b in zip(here, there)),
    }
    return tuple(found[name] for name in ORDER[strategy])


def nodes_of(placement):
    per_node = placement.cluster.devices_per_node
    return [[rank // per_node for rank in sorted(ranks)] for ranks in placement.stages]


def all_counts(left, width, stages):
    """Every way to give ``stages`` stages ``width`` ranks each, as ranks per node."""
    if stages == 0:
        yield ()
        return
    for counts in product(*(range(min(width, free), -1, -1) for free in left)):
        if sum(counts) == width:
            for rest in all_counts([a - b for a, b in zip(left, counts)], width, stages - 1):
                yield (counts, *rest)


def all_sets(ranks, width):
    """Every way to deal ``ranks`` to stages of ``width`` ranks."""
    if not ranks:
        yield ()
        return
    for chosen in combinations(ranks, width):
        for rest in all_sets([rank for rank in ranks if rank not in chosen], width):
            yield (chosen, *rest)


def at_most(iterable, limit):
    """The items as a list, or None when there are more than ``limit``."""
    items = []
    for item in iterable:
        if len(items) == limit:
            return None
        items.append(item)
    return items


def lcm(a, b):
    return a * b // math.gcd(a, b)  # math.lcm came with Python 3.9


def splits_of(size):
    return [n for n in range(1, size + 1) if size % n == 0]


@pytest.mark.parametrize("nodes, devices", list(product(range(1, 5), repeat=2)))
def test_no_ranks_per_node_are_better(nodes, devices):
    compared = 0
    for splits in splits_of(nodes * devices):
        every = at_most(all_counts([devices] * nodes, nodes * devices // splits, splits), LIMIT)
        if every is None:
            continue
        compared += 1
        listed = [
            (counts, [[n for n, count in enumerate(stage) for _ in range(count)] for stage in counts])
            for counts in every
        ]
        for strategy in ORDER:
            found = place(strategy, nodes, devices, splits)
            best = min(cost(strategy, stages) for _, stages in listed)
            assert cost(strategy, nodes_of(found)) == best, (strategy.__name__, splits)
            # Among equals, the one that fills the first nodes first.
            chosen = tuple(tuple(stage.count(n) for n in range(nodes)) for stage in nodes_of(found))
            assert chosen == max(counts for counts, stages in listed if cost(strategy, stages) == best)
    assert compared >= min(3, len(splits_of(nodes * devices)))


@pytest.mark.parametrize(
    "nodes, devices", [s for s in product(range(1, 4), repeat=2) if s[0] * s[1] <= 9] + [(2, 4), (4, 2)]
)
def test_no_sets_of_ranks_are_better(nodes, devices):
    compared = 0
    for splits in splits_of(nodes * devices):
        every = at_most(all_sets(list(range(nodes * devices)), nodes * devices // splits), 3000)
        if every is not None:
            compared += 1
            for strategy in ORDER:
                best = min(
                    cost(strategy, [[rank // devices for rank in ranks] for ranks in stages]) for stages in every
                )
                assert cost(strategy, nodes_of(place(strategy, nodes, devices, splits))) == best, (
                    strategy.__name__,
                    splits,
                )
    assert compared >= min(2, len(splits_of(nodes * devices)))


@pytest.mark.parametrize("nodes, devices", [(4, 4), (6, 8), (5, 8), (7, 3), (8, 6)])
def test_the_simple_rules_reach_the_least_there_can_be_in_any_shape(nodes, devices, monkeypatch):
    """What they fall back to when a shape is too large to search: the first criterion stays exact (see their
    docstrings).
    """
    monkeypatch.setattr(placement_search, "_MOST_COMBINATIONS", 0)
    for splits in splits_of(nodes * devices):
        width = nodes * devices // splits
        spans = sum(place(inter_first, nodes, devices, splits).nodes_of_stages())
        assert spans == splits + nodes - nodes * devices // lcm(width, devices)
        hops = place(intra_first, nodes, devices, splits).hops()
        assert sum(hop.crosses_nodes for hop in hops) == width + nodes - nodes * devices // lcm(splits, devices) - width


def test_small_shapes_are_searched_and_large_ones_answered_quickly(monkeypatch):
    found = []
    for strategy in ORDER:
        monkeypatch.setattr(
            strategy, "search", lambda *given: found.append(placement_search.search(*given)) or found[-1]
        )
    for nodes, devices in product(range(1, 5), repeat=2):
        for splits in splits_of(nodes * devices):
            for strategy in ORDER:
                place(strategy, nodes, devices, splits)
    assert found and None not in found
    place(inter_first, 16, 8, 2**6)
    place(intra_first, 15, 8, 60)
    assert found[-1] is None


@pytest.mark.parametrize(
    "strategy, nodes, devices, splits, stages, crossing",
    [
        (inter_first, 2, 2, 2, [(0, 1), (2, 3)], 2),
        (intra_first, 2, 2, 2, [(0, 2), (1, 3)], 0),
        (inter_first, 2, 2, 4, [(0,), (1,), (2,), (3,)], 1),
        (intra_first, 2, 2, 4, [(0,), (1,), (2,), (3,)], 1),
        (inter_first, 2, 2, 1, [(0, 1, 2, 3)], 0),
        (intra_first, 2, 2, 1, [(0, 1, 2, 3)], 0),
        (inter_first, 4, 2, 2, [(0, 1, 2, 3), (4, 5, 6, 7)], 4),
        (intra_first, 4, 2, 2, [(0, 2, 4, 6), (1, 3, 5, 7)], 0),
        (inter_first, 2, 4, 4, [(0, 1), (2, 3), (4, 5), (6, 7)], 2),
        (intra_first, 2, 4, 4, [(0, 4), (1, 5), (2, 6), (3, 7)], 0),
        (inter_first, 1, 4, 2, [(0, 1), (2, 3)], 0),
        (intra_first, 1, 4, 2, [(0, 1), (2, 3)], 0),
    ],
)
def test_a_strategy_means_what_its_name_says(strategy, nodes, devices, splits, stages, crossing):
    found = place(strategy, nodes, devices, splits)
    assert list(found.stages) == stages
    assert sum(hop.crosses_nodes for hop in found.hops()) == crossing


def test_tensor_parallel_ranks_are_part_of_a_stage():
    cluster = Cluster(2, 4)
    for strategy, stages in ((inter_first, ((0, 1, 2, 3), (4, 5, 6, 7))), (intra_first, ((0, 1, 4, 5), (2, 3, 6, 7)))):
        assert strategy.pipeloom_place(cluster=cluster, mesh=Mesh(2, 2, 2), config=None).stages == stages


@pytest.mark.parametrize("strategy", [inter_first, intra_first])
def test_placements_of_three_axes(strategy, monkeypatch):
    """All clusters up to 4 nodes x (4 tensor groups x 4 ranks): groups inside nodes, and laid as single devices would
    be.
    """
    monkeypatch.setattr(strategy, "_place", lru_cache(maxsize=None)(strategy._place))
    for nodes, groups, tensor in product(range(1, 5), repeat=3):
        for splits in splits_of(nodes * groups):
            cluster, mesh = Cluster(nodes, groups * tensor), Mesh(splits, nodes * groups // splits, tensor)
            placed = strategy.pipeloom_place(cluster=cluster, mesh=mesh, config=None)
            assert all(len({cluster.node_of(rank) for rank in group}) == 1 for group in placed.tensor_groups(tensor))
            assert all(group == tuple(range(group[0], group[0] + tensor)) for group in placed.tensor_groups(tensor))
            single = place(strategy, nodes, groups, splits)
            assert placed.nodes_of_stages() == single.nodes_of_stages()
            assert sum(hop.crosses_nodes for hop in placed.hops()) == tensor * sum(
                hop.crosses_nodes for hop in single.hops()
            )


@pytest.mark.parametrize("strategy", [inter_first, intra_first])
@pytest.mark.parametrize("nodes, devices, tensor", [(4, 2, 4), (4, 1, 2), (2, 3, 2), (4, 3, 4)])
def test_tensor_groups_that_no_node_holds_lie_on_as_few_as_can_be(strategy, nodes, devices, tensor):
    cluster = Cluster(nodes, devices)
    for splits in splits_of(cluster.size // tensor):
        placed = strategy.pipeloom_place(
            cluster=cluster, mesh=Mesh(splits, cluster.size // tensor // splits, tensor), config=None
        )
        fewest = -(-tensor // devices)
        assert all(
            len({cluster.node_of(rank) for rank in group}) <= fewest + (tensor % devices > 0)
            for group in placed.tensor_groups(tensor)
        )


@pytest.mark.parametrize(
    "stages, crossing",
    [
        ([[0, 3], [2, 1]], 0),  # meant to cross twice; carried out as [0, 3] -> [1, 2]
        ([[0, 1], [2, 3]], 2),
        ([[3, 2], [1, 0]], 2),
        ([[2, 0], [1, 3]], 0),
    ],
)
def test_hops_are_paired_by_sorted_position(stages, crossing):
    hops = Placement.of(Cluster(2, 2), stages).hops()
    assert [(hop.source, hop.target) for hop in hops] == list(zip(sorted(stages[0]), sorted(stages[1])))
    assert sum(hop.crosses_nodes for hop in hops) == crossing


def test_hops_go_from_each_stage_to_the_next():
    assert Placement.of(Cluster(2, 2), [[3], [0], [1], [2]]).hops() == [
        Hop(0, 3, 0, True),
        Hop(1, 0, 1, False),
        Hop(2, 1, 2, True),
    ]
    assert Placement.of(Cluster(2, 2), [[0, 1, 2, 3]]).hops() == []


@pytest.mark.parametrize(
    "stages, says",
    [
        ([[0, 1], [2]], "a placement must use each of the ranks 0..3 once, not [0, 1, 2]"),
        ([[0, 1], [2, 2]], "a placement must use each of the ranks 0..3 once, not [0, 1, 2, 2]"),
        ([[0, 1], [2, 4]], "a placement must use each of the ranks 0..3 once, not [0, 1, 2, 4]"),
        ([[0, 1], [2, 3, 3]], "a placement must use each of the ranks 0..3 once, not [0, 1, 2, 3, 3]"),
        ([], "a placement must use each of the ranks 0..3 once, not []"),
        ([[0, 1, 2], [3]], "all stages must have the same number of ranks, not [3, 1]"),
        ([[0, 1, 2, 3], []], "all stages must have the same number of ranks, not [4, 0]"),
    ],
)
def test_a_placement_is_checked(stages, says):
    with pytest.raises(UsageError) as raised:
        Placement.of(Cluster(2, 2), stages)
    assert str(raised.value) == says


@pytest.mark.parametrize(
    "strategy, splits, summary",
    [
        (inter_first, 2, "pipeline hops: 2 between nodes, 0 inside; gradients all-reduced inside nodes"),
        (intra_first, 2, "pipeline hops: 0 between nodes, 2 inside; gradients all-reduced across 2 nodes"),
        (inter_first, 4, "pipeline hops: 1 between nodes, 2 inside; no data parallelism"),
        (inter_first, 1, "pipeline hops: 0 between nodes, 0 inside; gradients all-reduced across 2 nodes"),
    ],
)
def test_the_summary(strategy, splits, summary):
    assert place(strategy, 2, 2, splits).summary() == summary


def test_the_grid_has_a_line_for_each_node():
    placed = place(intra_first, 2, 2, 2)
    assert placed.grid() == "node 0 | rank 0: stage 0 | rank 1: stage 1 |\nnode 1 | rank 2: stage 0 | rank 3: stage 1 |"
    assert [placed.stage_of(rank) for rank in range(4)] == [0, 1, 0, 1]
    assert placed.nodes_of_stages() == [2, 2]


def test_splits_that_do_not_divide_list_those_that_do():
    with pytest.raises(UsageError) as raised:
        mesh_from_splits(Cluster(2, 3), 4)
    assert str(raised.value) == (
        "--nums_split 4 does not divide the 6 devices of 2 logical nodes x 3 CPU devices: choose one of 1, 2, 3, 6"
    )


def test_a_mesh_uses_the_whole_cluster():
    assert mesh_from_splits(Cluster(2, 4), 4) == Mesh(pipeline=4, data=2, tensor=1)
    Mesh(2, 2, 2).check(Cluster(2, 4))
    with pytest.raises(UsageError) as raised:
        Mesh(2, 2).check(Cluster(1, 1, "cuda"))
    assert str(raised.value) == (
        "the mesh pipeline 2 x data 2 x tensor 1 uses 4 devices, the cluster has 1 (1 node x 1 CUDA device)"
    )
