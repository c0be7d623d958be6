"""--profile, by made-up recordings: one clock, what the time went on, the tables and the trace."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.recording import Recording, TimedOperation, Transfer
from pipeloom.plugins.loggers.profiler.chrome import trace_events
from pipeloom.plugins.loggers.profiler.clock import offsets
from pipeloom.plugins.loggers.profiler.parts import RankTimeline, merge, pack
from pipeloom.plugins.loggers.profiler.profile_files import write_profile
from pipeloom.plugins.loggers.profiler.steps import StepRange, steps_of
from pipeloom.plugins.loggers.profiler.summary import as_text, order_of_work, summarize
from pipeloom.plugins.loggers.profiler.times import WAITS, measure_times, micro_batches

pytestmark = pytest.mark.fast

MS = 1_000_000
HOP, BACK = Transfer("out", 0, "in", 1), Transfer("g_out", 1, "g_in", 0)
#: Two stages and two micro-batches in a step of 100 ms: (stage, operation, work, micro-batch, begin, end).
STEP = [
    (0, "out", "forward", 0, 10, 20),
    (0, "out", "forward", 1, 20, 30),
    (0, "g_in", "backward", 0, 45, 60),
    (0, "g_in", "backward", 1, 65, 80),
    (0, "adam", "update", None, 85, 95),
    (1, "in", "forward", 0, 22, 32),
    (1, "g_out", "backward", 0, 32, 44),
    (1, "in", "forward", 1, 44, 54),
    (1, "g_out", "backward", 1, 54, 64),
    (1, "adam", "update", None, 90, 100),
]


def operation(name, work, micro_batch, begin, end, step=0, thread=7):
    return TimedOperation(name, name, work, step, micro_batch, int(begin * MS), int(end * MS), thread)


def recorded(stage, steps=2, shift=0):
    """What a rank of ``stage`` records of so many steps by a clock that shows ``shift`` nanoseconds more."""
    runs = [
        TimedOperation(name, name, work, step, part, b * MS + at + shift, e * MS + at + shift, 7)
        for step in range(steps)
        for at in [100 * MS * step]
        for where, name, work, part, b, e in STEP
        if where == stage
    ]
    return Recording(runs, (HOP, BACK), steps, 0, 200 * MS)


def part(rank, shift=0, **clock):
    phases = [("data", 1 * MS + shift, 3 * MS + shift), ("launch", shift, 5 * MS + shift)]
    return pack(rank, rank, recorded(rank, shift=shift), phases, {"machine": "a", "messages": [], **clock})


@pytest.fixture(scope="module")
def merged():
    return merge([part(0), part(1)])


@pytest.fixture(scope="module")
def times(merged):
    return measure_times(merged[0])


def test_every_millisecond_of_a_rank_is_work_or_waiting(times):
    assert (times.begin, times.end, times.steps) == (10 * MS, 200 * MS, 2)
    for rank in times.ranks:
        assert sum(rank.work.values()) + sum(rank.waiting.values()) == times.end - times.begin
    assert times.ranks[0].work == {"forward": 40 * MS, "backward": 60 * MS, "update": 20 * MS}


def test_waiting_is_told_apart_by_what_it_waits_for(times):
    def waits(rank):
        return [times.ranks[rank].waiting[name] / MS for name in WAITS]

    # Start: to the second step's first operation, from the end of the first one on this rank (95; 100).
    assert waits(0) == [15, 0, 2 * (15 + 5), 0, 2 * 5 + 5]
    assert waits(1) == [10, 2 * 12, 0, 2 * 16, 2 * 10]


def test_the_order_of_work_shows(times):
    assert order_of_work(times.ranks[0]) == ["F0", "F1", "B0", "B1"]
    assert order_of_work(times.ranks[1]) == ["F0", "B0", "F1", "B1"]


def test_what_runs_ahead_counts_as_work_and_not_as_the_begin():
    mask, rest = operation("mask", "forward", 0, 0, 1), operation("matmul", "forward", 0, 50, 70)
    late = operation("look-up's gradient", "forward", 0, 90, 91)
    (found,) = micro_batches([mask, rest, late]).values()
    assert (found.begin, found.end, found.busy) == (50 * MS, 70 * MS, 22 * MS)
    (found,) = micro_batches([mask]).values()
    assert (found.begin, found.end) == (0, MS)


def test_figures_are_of_a_step(merged, times):
    summary = summarize(times, *merged, first=5, samples=8)
    assert summary["steps"] == [5, 6] and summary["step_ms"] == 95
    assert summary["samples_per_second"] == pytest.approx(8 / 0.095)
    first, second = summary["ranks"]
    assert first["work"]["backward"] == 30 and second["waiting"]["fill"] == 12
    assert first["bubble"] == pytest.approx(70 / 190)
    assert second["micro_batches"]["forward"][1] == {"begin": 34, "end": 44, "busy": 10}
    assert [(way["from"], way["to"], way["least_ms"]) for way in summary["transfers"]] == [(0, 1, 2), (1, 0, 1)]
    text = as_text(summary)
    assert "steps 5 to 6: 95.0 ms a step" in text and "F0 B0 F1 B1" in text and "30.0  32%" in text
    assert "and 1 more ranks" in as_text(summary, most=1)


def test_ranks_of_other_machines_are_put_on_the_main_ranks_clock():
    """The other clock shows 5 s more; a message ends everywhere after it has begun everywhere."""
    shift = 5_000 * MS
    main = [(0, 10 * MS), (20 * MS, 22 * MS)]
    other = [(shift + 9 * MS, shift + 11 * MS), (shift + 20 * MS + 5, shift + 21 * MS)]
    known = offsets([{"machine": "a", "messages": main}, {"machine": "b", "messages": other}])
    assert known[0] == (0, 0)
    offset, exactness = known[1]
    assert abs(offset - shift) <= exactness <= 1.5 * MS
    timelines, _ = merge([part(0, messages=main), part(1, shift, machine="b", messages=other)])
    begin = timelines[1].operations[0].begin
    assert abs(begin - 22 * MS) <= timelines[1].exactness == exactness
    assert abs(timelines[1].phases[0][1] - 1 * MS) <= exactness


def spans_by_track(events):
    tracks = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    return tracks


def test_the_trace_is_what_viewers_read(merged, times):
    events = json.loads(json.dumps(trace_events(times, *merged, first=5)))
    assert {event["ph"] for event in events} == {"M", "X", "s", "f"}
    assert all(event["ts"] >= 0 and event.get("dur", 0) >= 0 for event in events if event["ph"] != "M")
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {0: "rank 0, stage 0", 1: "rank 1, stage 1"}
    work = [event for event in spans_by_track(events)[(1, 1)] if event["args"]["step"] == 5]
    assert [event["name"] for event in work] == ["forward 0", "backward 0", "forward 1", "backward 1", "update"]
    assert work[0]["args"] == {"stage": 1, "micro_batch": 0, "step": 5} and work[0]["ts"] == 22_000
    arrows = [event for event in events if event["ph"] in "sf"]
    assert len(arrows) == 2 * 2 * 2 * 2  # ends, transfers, micro-batches, steps
    for sent, used in zip(arrows[::2], arrows[1::2]):
        assert sent["id"] == used["id"] and sent["pid"] != used["pid"] and sent["ts"] < used["ts"]


def test_files_are_written_and_the_summary_is_said(tmp_path):
    said = []
    config = SimpleNamespace(train_global_batch_size=8)
    run = SimpleNamespace(directory=tmp_path, say=said.append, config=config)
    write_profile(run, [part(0), part(1)], first=5)
    folder = tmp_path / "profile"
    assert sorted(path.name for path in folder.iterdir()) == ["summary.json", "summary.txt", "trace.json"]
    assert json.loads((folder / "trace.json").read_text())["otherData"]["steps"] == [5, 6]
    assert (folder / "summary.txt").read_text().strip() == said[1]


def test_a_rank_without_operations_waits(merged):
    timelines = [merged[0][0], RankTimeline(1, 1, [], [], 2)]
    times = measure_times(timelines)
    assert sum(times.ranks[1].waiting.values()) == times.end - times.begin
    assert order_of_work(times.ranks[1]) == []


@pytest.mark.parametrize(
    "given, read",
    [(5, "5"), ("20-24", "20-24"), (" 2 - 3 ", "2-3"), ("4-4", "4-4")]
    + [(bad, None) for bad in ("", "0", "5-4", "-3", "a", "1,2", "1-2-3", True, 2.5, None, [1, 2], "9" * 40)],
)
def test_steps_as_they_are_written(given, read):
    assert StepRange.convert(given) == read


def test_which_steps():
    assert steps_of("5", 0, 100) == (4, 8) and steps_of("5", 40, 100) == (44, 48)
    assert steps_of("5", 0, 7) == (3, 7)  # two warm steps are all that there are
    assert steps_of("20-24", 0, 100) == (20, 24) and steps_of("42-42", 40, 100) == (42, 42)
    for value, done, total in (("5", 0, 5), ("1-3", 0, 9), ("41-42", 40, 100), ("8-10", 0, 9), ("2-200", 0, 900)):
        with pytest.raises(UsageError, match=f"--profile {value}: "):
            steps_of(value, done, total)
