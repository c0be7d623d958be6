"""A simulated pipeline: the closed formula where it holds, and what must be true of any."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeloom.core.planning.simulation import BACKWARD, FORWARD, PipelineWork, simulate


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("micro_batches", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("times", [(1, 2), (1, 1), (3, 1)])
def test_equal_stages_take_what_the_formula_says(stages, micro_batches, times):
    forward, backward = times
    work = PipelineWork([[forward] * micro_batches] * stages, [[backward] * micro_batches] * stages)
    found = simulate(work)
    assert found.length == (micro_batches + stages - 1) * (forward + backward)
    assert found.bubble == pytest.approx((stages - 1) / (micro_batches + stages - 1))


def test_one_micro_batch_passes_all_stages_and_links():
    work = PipelineWork([[1], [2], [3]], [[4], [5], [6]], hops=[10, 100], after=[7, 0, 0])
    assert simulate(work).length == 1 + 2 + 3 + 4 + 5 + 6 + 2 * 110 + 7


def test_a_stage_waits_for_what_arrives_late():
    work = PipelineWork([[1, 1]], [[1, 1]], arrivals=[0, 10])
    assert [(span.what, span.begin) for span in simulate(work).spans] == [
        (FORWARD, 0),
        (BACKWARD, 1),
        (FORWARD, 10),
        (BACKWARD, 11),
    ]


def test_a_link_carries_one_thing_after_the_other():
    """Four forward passes of no length wait for a link that takes 5 for each."""
    found = simulate(PipelineWork([[0] * 4, [1] * 4], [[0] * 4, [0] * 4], hops=[5]))
    assert [span.begin for span in found.spans if span.stage == 1 and span.what == FORWARD] == [5, 10, 15, 20]


TIMES = st.floats(0.1, 10)


@st.composite
def works(draw):
    stages, micro_batches = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rows = st.lists(st.lists(TIMES, min_size=micro_batches, max_size=micro_batches), min_size=stages, max_size=stages)
    hops = draw(st.lists(st.floats(0, 5), min_size=stages - 1, max_size=stages - 1))
    return PipelineWork(draw(rows), draw(rows), hops, in_flight=draw(st.sampled_from([None, 1, 2, stages])))


@given(works())
@settings(deadline=None, max_examples=150)
def test_what_holds_for_all(work):
    found = simulate(work)
    stages, micro_batches = len(work.forward), len(work.forward[0])
    when = {(span.stage, span.what, span.micro_batch): span for span in found.spans}
    assert len(when) == len(found.spans) == 2 * stages * micro_batches
    most = work.in_flight or 2 * stages
    for stage in range(stages):
        own = [span for span in found.spans if span.stage == stage]
        assert all(first.end <= second.begin for first, second in zip(own, own[1:]))
        assert found.length >= sum(work.forward[stage]) + sum(work.backward[stage]) - 1e-9
        for moment in own:
            begun = [span for span in own if span.what == FORWARD and span.begin <= moment.begin]
            done = [span for span in own if span.what == BACKWARD and span.end <= moment.begin]
            assert len(begun) - len(done) <= most
    for number in range(micro_batches):
        for stage in range(stages - 1):
            hop = work.hops[stage]
            assert when[stage, FORWARD, number].end + hop <= when[stage + 1, FORWARD, number].begin + 1e-9
            assert when[stage + 1, BACKWARD, number].end + hop <= when[stage, BACKWARD, number].begin + 1e-9
        assert when[stages - 1, FORWARD, number].end <= when[stages - 1, BACKWARD, number].begin


@pytest.mark.parametrize(
    "wrong, what",
    [
        (dict(forward=[], backward=[]), "same stages"),
        (dict(forward=[[1], [1, 2]], backward=[[1], [1]]), "same micro-batches"),
        (dict(forward=[[1], [1]], backward=[[1], [1]], hops=[1, 2]), "1 hops"),
        (dict(forward=[[1]], backward=[[1]], in_flight=0), "in_flight"),
    ],
)
def test_what_is_no_pipeline_is_refused(wrong, what):
    with pytest.raises(ValueError, match=what):
        PipelineWork(**wrong)


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=1, max_size=4), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_stages_that_share_a_machine_take_at_least_its_work_and_as_long_as_alone_where_it_serves_all(times, count):
    forward, backward = ([[one[k]] * count for one in times] for k in (0, 1))
    alone = simulate(PipelineWork(forward, backward))
    enough = simulate(PipelineWork(forward, backward, capacity=len(times)))
    assert enough.length == pytest.approx(alone.length)
    for capacity in (1, 1.5):
        shared = simulate(PipelineWork(forward, backward, capacity=capacity)).length
        total = sum(map(sum, forward)) + sum(map(sum, backward))
        assert shared >= total / max(1, min(capacity, len(times))) - 1e-9
        assert (
            shared >= alone.length - 1e-9 or capacity >= 1
        )  # an order that a slower machine makes may be a better one
    assert simulate(PipelineWork(forward, backward, capacity=1)).length == pytest.approx(total)


def test_two_stages_on_one_core_take_turns():
    found = simulate(PipelineWork([[1, 1]] * 2, [[1, 1]] * 2, capacity=1))
    assert found.length == pytest.approx(8)
    with pytest.raises(ValueError, match="capacity"):
        PipelineWork([[1]], [[1]], capacity=0)


@pytest.mark.parametrize("chunks", [2, 3, 4])
def test_interleaved_stages_divide_the_bubble(chunks):
    """Narayanan et al. 2021, section 2.2: the bubble of v chunks a device is ``(p - 1) / v`` micro-batches long."""
    devices, count = 4, 16
    virtual = devices * chunks
    work = PipelineWork(
        [[1 / chunks] * count] * virtual,
        [[2 / chunks] * count] * virtual,
        devices=[stage % devices for stage in range(virtual)],
        in_flight=count,
    )
    plain = simulate(PipelineWork([[1] * count] * devices, [[2] * count] * devices)).length
    assert plain == (count + devices - 1) * 3
    least = count * 3 + (devices - 1) * 3 / chunks
    assert least - 1e-9 <= simulate(work).length < least + 3


def test_weights_that_wait_fill_the_bubble():
    """Qi et al. 2023: what only the update waits for is done where stages would wait."""
    devices, count = 4, 8
    plain = PipelineWork([[1] * count] * devices, [[2] * count] * devices)
    split = PipelineWork([[1] * count] * devices, [[1] * count] * devices, weights=[[1] * count] * devices)
    work = count * 3
    assert work <= simulate(split).length < simulate(plain).length == work + (devices - 1) * 3
    assert all(simulate(split).busy(stage) == work for stage in range(devices))
