"""Where the time of a step goes on each rank: work, waiting and micro-batches, from the operations of all ranks.

Waiting is told apart by when it is: ``start``, before any rank has begun the step's forward pass (the rank's own thread
reads and launches then); ``fill``, until the first micro-batch has come to this rank; ``between`` its micro-batches;
``drain``, after its last one until all ranks have done theirs; ``update``, from there to the rank's last operation
(gradients and their norm are on their way).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

from pipeloom.core.contract.recording import WORK, TimedOperation
from pipeloom.plugins.loggers.profiler.parts import RankTimeline, Span

WAITS = ("start", "fill", "between", "drain", "update")
PASSES = ("forward", "backward")
#: What an operation of a micro-batch is set apart by from the others, and how little makes such a part, by the whole.
_APART, _SMALL = 0.1, 0.1


@dataclass
class MicroBatch:
    """The forward or backward pass of a micro-batch in one step on a rank: ``busy`` nanoseconds from begin to end."""

    begin: int
    end: int
    busy: int


@dataclass
class RankTimes:
    """Nanoseconds of all recorded steps: of ``work`` by kind, of waiting by ``WAITS``, of phases of the own thread.

    ``passes`` has the micro-batches by ``(pass, step, micro-batch)``; ``waits`` are all spans of waiting.
    """

    rank: int
    stage: int
    work: Dict[str, int]
    waiting: Dict[str, int]
    phases: Dict[str, int]
    types: Dict[str, int]
    passes: Dict[Tuple[str, int, int], MicroBatch] = field(default_factory=dict)
    waits: List[Span] = field(default_factory=list)


@dataclass
class Times:
    """Of ``steps`` steps from ``begin``, the first operation of all ranks, to ``end``, the last; by rank."""

    begin: int
    end: int
    steps: int
    ranks: List[RankTimes]
    #: The first operation of the forward pass of each step, on any rank.
    step_begins: List[int]


def measure_times(timelines: Sequence[RankTimeline]) -> Times:
    """Return where the time of the recorded steps went. There is at least one operation."""
    operations = [run for timeline in timelines for run in timeline.operations]
    begin, end = min(run.begin for run in operations), max(run.end for run in operations)
    steps = timelines[0].steps
    passes = [micro_batches(timeline.operations) for timeline in timelines]
    begins = [
        min([found.begin for known in passes for (what, at, _), found in known.items() if at == step] or [begin])
        for step in range(steps)
    ]
    ends = [
        max([found.end for known in passes for (_, at, _), found in known.items() if at == step] or [end])
        for step in range(steps)
    ]
    ranks = []
    for timeline, known in zip(timelines, passes):
        waits = _waits(timeline, known, begin, end, begins, ends)
        waiting: Counter = Counter()
        for name, first, last in waits:
            waiting[name] += last - first
        ranks.append(
            RankTimes(
                timeline.rank,
                timeline.stage,
                _sums((run.work, run.end - run.begin) for run in timeline.operations),
                {name: waiting[name] for name in WAITS},
                _sums((name, last - first) for name, first, last in timeline.phases),
                _sums((run.type, run.end - run.begin) for run in timeline.operations),
                known,
                waits,
            )
        )
    return Times(begin, end, steps, ranks, begins)


def micro_batches(operations: Sequence[TimedOperation]) -> Dict[Tuple[str, int, int], MicroBatch]:
    """Return the passes of micro-batches by ``(pass, step, micro-batch)``.

    Some operations run long before or after the others of a micro-batch: masks, what is looked up for another stage.
    They count as work, but not for begin and end, as long as they are a small part of it.
    """
    runs: Dict[Tuple[str, int, int], List[TimedOperation]] = defaultdict(list)
    for run in operations:
        if run.work in PASSES and run.micro_batch is not None:
            runs[(run.work, run.step, run.micro_batch)].append(run)
    return {key: _extent(own) for key, own in runs.items()}


def _extent(runs: Sequence[TimedOperation]) -> MicroBatch:
    busy = sum(run.end - run.begin for run in runs)
    clusters: List[List[int]] = []  # begin, end, busy
    for run in runs:
        if clusters and run.begin - clusters[-1][1] <= _APART * busy:
            clusters[-1][1] = max(clusters[-1][1], run.end)
            clusters[-1][2] += run.end - run.begin
        else:
            clusters.append([run.begin, run.end, run.end - run.begin])
    large = [cluster for cluster in clusters if cluster[2] >= _SMALL * busy] or clusters
    return MicroBatch(large[0][0], large[-1][1], busy)


def _waits(
    timeline: RankTimeline,
    passes: Dict[Tuple[str, int, int], MicroBatch],
    begin: int,
    end: int,
    begins: Sequence[int],
    ends: Sequence[int],
) -> List[Span]:
    """The gaps between the operations of a rank, each cut where what it waits for changes."""
    own: Dict[int, List[MicroBatch]] = defaultdict(list)
    for (_, step, _), found in passes.items():
        own[step].append(found)
    last_of_step: Dict[int, int] = defaultdict(int)
    for run in timeline.operations:
        last_of_step[run.step] = max(last_of_step[run.step], run.end)
    changes: List[Tuple[int, str]] = []  # until when, what
    for step in range(timeline.steps):
        changes += [
            (begins[step], "start"),
            (min([found.begin for found in own[step]] or [begins[step]]), "fill"),
            (max([found.end for found in own[step]] or [begins[step]]), "between"),
            (ends[step], "drain"),
            (last_of_step[step] if step + 1 < timeline.steps else end, "update"),
        ]
    waits: List[Span] = []
    at = 0
    for first, last in _gaps(timeline.operations, begin, end):
        while first < last:
            while changes[at][0] <= first:
                at += 1
            until = min(changes[at][0], last)
            waits.append((changes[at][1], first, until))
            first = until
    return waits


def _gaps(operations: Sequence[TimedOperation], begin: int, end: int) -> List[Tuple[int, int]]:
    """The time from ``begin`` to ``end`` in which no thread of a rank had an operation; they are in order of begin."""
    gaps, done = [], begin
    for run in operations:
        if run.begin > done:
            gaps.append((done, run.begin))
        done = max(done, run.end)
    return gaps + ([(done, end)] if end > done else [])


def _sums(pairs: Any) -> Dict[str, int]:
    sums: Counter = Counter()
    for name, value in pairs:
        sums[name] += value
    order = {name: number for number, name in enumerate(WORK)}
    return dict(sorted(sums.items(), key=lambda item: (order.get(item[0], 0), -item[1])))
