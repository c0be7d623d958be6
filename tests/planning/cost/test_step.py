"""The cost of a step: closed formulas where they are exact, and what must be true of any layout."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.cost.small_model import model

from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.planning.cost.collectives import all_reduce_seconds, send_seconds
from pipeloom.core.planning.cost.geometry import INTER_FIRST, INTRA_FIRST, Geometry, GroupShape
from pipeloom.core.planning.cost.hardware import Calibration, Device, Machines, Network
from pipeloom.core.planning.cost.search import Search
from pipeloom.core.planning.cost.step import LayoutShape, StepModel, step_length
from pipeloom.core.planning.simulation import PipelineWork, simulate
from pipeloom.plugins.strategies import inter_first, intra_first

EXACT = Calibration(efficiency=1.0, traffic=1e-9, update=1e-9, inside=1.0, between=1.0)
DEVICE = Device("device", "cuda", 1e9, 1e12, {"float32": 1e9, "float16": 4e9})


def machines(nodes=2, devices=2, inside=1e9, between=1e8, **others):
    networks = Network(inside, 0.0), Network(between, 0.0)
    return Machines("m", nodes, devices, DEVICE, *networks, **{"calibration": EXACT, **others})


@pytest.mark.parametrize("nodes, devices, tensor", product((1, 2, 3, 4, 6), (1, 2, 3, 4, 8), (1, 2, 4)))
def test_counting_a_regular_placement_says_what_its_ranks_say(nodes, devices, tensor):
    cluster = Cluster(nodes, devices)
    for stages in range(1, 17):
        if cluster.size % (stages * tensor):
            continue
        mesh = Mesh(stages, cluster.size // stages // tensor, tensor)
        for order, strategy in ((INTER_FIRST, inter_first), (INTRA_FIRST, intra_first)):
            counted = Geometry.regular(cluster, mesh, order)
            if counted is not None:
                assert counted == Geometry.of(strategy.pipeloom_place(cluster, mesh, None), tensor)


def test_a_ring_passes_what_patarasuk_and_yuan_say_and_its_slowest_edge_decides():
    two = machines()
    assert all_reduce_seconds(two, 1e8, GroupShape(4)) == pytest.approx(2 * 3 / 4 * 1e8 / 1e9)
    assert all_reduce_seconds(two, 1e8, GroupShape(2, nodes=2)) == pytest.approx(1e8 / 1e8)
    assert all_reduce_seconds(two, 1e8, GroupShape(2, nodes=2, sharing=2)) == pytest.approx(2e8 / 1e8)
    # By levels: scattered among the two of each node, half of it around two nodes by each of them, and gathered.
    assert all_reduce_seconds(two, 1e8, GroupShape(4, nodes=2)) == pytest.approx(1e8 / 1e9 + 1e8 / 1e8)
    assert all_reduce_seconds(two, 1e8, GroupShape(1)) == 0 == send_seconds(two, 0, 1)
    assert send_seconds(two, 1e8, 0) == pytest.approx(0.1) and send_seconds(two, 1e8, 2) == pytest.approx(2.0)
    slow = replace(two, inside=Network(1e9, 0.0, {2: 2e8, 4: 8e8}))
    assert all_reduce_seconds(slow, 1e8, GroupShape(2)) == pytest.approx(1e8 / 2e8)
    other = replace(two, gradients=Network(1e9, 0.0), hidden=Network(5e7, 0.0))
    assert all_reduce_seconds(other, 1e8, GroupShape(2, nodes=2)) == pytest.approx(1e8 / 1e9)
    assert send_seconds(other, 1e8, 1) == pytest.approx(2.0)


def layout(pipeline, data, micro_batches, split, order=INTER_FIRST, tensor=1, **others):
    geometry = Geometry.regular(Cluster(2, 2), Mesh(pipeline, data, tensor), order)
    return LayoutShape(pipeline, data, tensor, split, geometry, micro_batches, **{"table": True, **others})


def untied(machines, samples=16):
    return StepModel(machines, model(layers=4, head=0.0, tied=False), samples, 128)


def test_equal_stages_without_a_network_take_what_the_formula_says():
    fast = machines(inside=1e18, between=1e18)
    for stages, split in ((1, (6,)), (2, (3, 3)), (4, (2, 1, 1, 2))):
        for count in (1, 2, 4):
            data = 4 // stages
            cost = untied(fast).cost(layout(stages, data, count, split))
            flops = 4 * 1e6 * 128 * 16 / data / count
            assert cost.step == pytest.approx((count + stages - 1) * 3 * flops / stages / 1e9, rel=1e-6)


def test_each_reason_is_counted_once():
    free = machines(inside=1e18, between=1e18)
    base = untied(free).cost(layout(1, 4, 1, (6,)))
    size = 4 * 49152 + 2 * 65536  # embeddings and layers have so many parameters; the head's table
    slow = machines(inside=1e18, between=1e8)
    exchange = untied(slow).cost(layout(1, 4, 1, (6,))).step - base.step
    assert exchange == pytest.approx(2 * 1 / 2 * size * 4 / 1e8, rel=1e-3)  # around two nodes
    hidden = untied(slow).cost(replace(layout(1, 4, 1, (6,)))).hidden
    assert hidden == (0.0,)
    half = replace(slow, calibration=replace(EXACT, overlap=0.5))
    assert untied(half).cost(layout(1, 4, 1, (6,))).step - base.step == pytest.approx(exchange / 2, rel=1e-3)
    again = untied(free).cost(layout(1, 4, 1, (6,), recomputed=(4,)))
    assert again.step == pytest.approx(base.step * 4 / 3, rel=1e-6)
    part = untied(free).cost(layout(1, 4, 1, (6,), recomputed=(1,)))
    assert part.step == pytest.approx(base.step * (1 + 1 / 12), rel=1e-6)
    update = replace(free, calibration=replace(EXACT, update=8.0))
    assert untied(update).cost(layout(1, 4, 1, (6,))).step - base.step == pytest.approx(size * 4 * 8 / 1e12, rel=1e-3)
    assert untied(update).cost(layout(1, 4, 1, (6,), shard="optimizer")).update[0] == pytest.approx(
        size * 8 / 1e12, rel=1e-2
    )
    hop = untied(machines(inside=1e18, between=1e6)).cost(layout(2, 2, 1, (3, 3)))
    states = 16 / 2 * 128 * 64 * 4 * 2 / 1e6  # of both lanes that leave the node
    assert hop.hops == (pytest.approx(states),)
    assert untied(machines(between=1e6)).cost(layout(2, 2, 1, (3, 3), INTRA_FIRST)).hops[0] < 1e-3 * states


def test_a_larger_share_of_the_samples_takes_longer_and_the_host_its_least():
    launched = replace(machines(inside=1e18, between=1e18), calibration=replace(EXACT, launch=1.0))
    assert untied(launched).cost(layout(1, 4, 4, (6,))).step == pytest.approx(4 * 4 * 3 * 1.0, rel=0.01)


def test_ranks_that_share_cores_take_as_long_as_the_cores():
    shared = replace(machines(inside=1e18, between=1e18), sharing=2.0)
    alone = untied(machines(inside=1e18, between=1e18)).cost(layout(1, 4, 1, (6,))).step
    assert untied(shared).cost(layout(1, 4, 1, (6,))).step == pytest.approx(2 * alone)
    # Two stages of two ranks on two cores: all of the work over two cores, whatever the order.
    assert untied(shared).cost(layout(2, 2, 4, (3, 3))).step == pytest.approx(2 * alone, rel=1e-6)


@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)), min_size=2, max_size=4),
    st.integers(300, 900),
    st.floats(0, 2),
)
@settings(deadline=None, max_examples=20)
def test_many_micro_batches_are_reckoned_as_they_play(stages, count, hop):
    work = PipelineWork([[f] * count for f, _ in stages], [[b] * count for _, b in stages], [hop] * (len(stages) - 1))
    assert step_length(work) == pytest.approx(simulate(work).length, rel=0.03)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sharing", [1.0, 2.0])
def test_no_bound_is_above_its_step_and_the_search_finds_the_quickest(tied, sharing):
    usual = Calibration(launch=1e-3, head_launch=2e-3, sync=1e-4, overlap=0.3, step=1e-3)
    slow = machines(nodes=2, devices=4, between=1e7, calibration=usual, sharing=sharing)
    search = Search(slow, model(layers=6, tied=tied), 16, 128)
    every = [search.play(one) for one in search.candidates()]
    assert len(every) > 200
    for one in every:
        assert one.cost.bound() <= one.seconds * (1 + 1e-9)
        assert sum(one.layout.split) == 8 and min(one.layout.split) >= 1
    quickest = sorted(one.seconds for one in every)
    found = search.best(5)
    assert [one.seconds for one in found.best] == pytest.approx(quickest[:5])
    assert found.candidates == len(every) and found.played < len(every)
    # What does not fit is passed over, and told.
    few = search.best(3, fits=lambda one: one.layout.data == 1)
    alone = sorted(one.seconds for one in every if one.layout.data == 1)
    assert [one.seconds for one in few.best] == pytest.approx(alone[:3])
    assert all(one.layout.data > 1 for one in few.unfit)
    fixed = Search(slow, model(layers=6, tied=tied), 16, 128, fixed={"nums_split": 2, "recompute": "none"})
    assert {(one.layout.pipeline, one.layout.recomputed) for one in fixed.candidates()} == {(2, ())}
