"""What a rank recorded, as it travels to the main rank, and there on the main rank's clock."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from pipeloom.core.contract.recording import Recording, TimedOperation, Transfer
from pipeloom.plugins.loggers.profiler.clock import offsets

#: A phase of the rank's own thread: its name, begin and end.
Span = Tuple[str, int, int]


@dataclass(frozen=True)
class RankTimeline:
    """The operations of a rank in order of time, and the phases of its own thread; nanoseconds of the main rank.

    ``exactness``: by how much times may be off against those of the main rank, in nanoseconds.
    """

    rank: int
    stage: int
    operations: List[TimedOperation]
    phases: List[Span]
    steps: int
    lost: int = 0
    exactness: int = 0


def pack(rank: int, stage: int, recording: Recording, phases: Sequence[Span], clock: Dict[str, Any]) -> bytes:
    """Return what ``rank`` recorded as few bytes."""
    kinds = sorted({(run.name, run.type, run.work) for run in recording.operations})
    numbers = {kind: number for number, kind in enumerate(kinds)}
    runs = [
        (
            numbers[(run.name, run.type, run.work)],
            run.step,
            -1 if run.micro_batch is None else run.micro_batch,
            run.begin,
            run.end - run.begin,
            run.thread,
        )
        for run in recording.operations
    ]
    content = {
        "rank": rank,
        "stage": stage,
        "clock": clock,
        "kinds": kinds,
        "runs": runs,
        "phases": list(phases),
        "transfers": [(t.producer, t.source, t.consumer, t.target) for t in recording.transfers],
        "steps": recording.steps,
        "lost": recording.lost,
    }
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)


def merge(parts: Sequence[bytes]) -> Tuple[List[RankTimeline], List[Transfer]]:
    """Return what all ranks recorded (in ``parts``, by rank) on one clock."""
    contents = [json.loads(zlib.decompress(part)) for part in parts]
    clocks = offsets([content["clock"] for content in contents])
    timelines = [_timeline(content, *clock) for content, clock in zip(contents, clocks)]
    return timelines, [Transfer(*transfer) for transfer in contents[0]["transfers"]]


def _timeline(content: Dict[str, Any], offset: int, exactness: int) -> RankTimeline:
    threads = {thread: number for number, thread in enumerate(sorted({run[5] for run in content["runs"]}))}
    operations = []
    for kind, step, micro_batch, begin, duration, thread in content["runs"]:
        name, type_, work = content["kinds"][kind]
        part = None if micro_batch < 0 else micro_batch
        begin -= offset
        operations.append(TimedOperation(name, type_, work, step, part, begin, begin + duration, threads[thread]))
    operations.sort(key=lambda run: run.begin)
    phases = [(name, begin - offset, end - offset) for name, begin, end in content["phases"]]
    return RankTimeline(
        content["rank"], content["stage"], operations, phases, content["steps"], content["lost"], exactness
    )
