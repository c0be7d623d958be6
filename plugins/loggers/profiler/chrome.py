"""A Chrome trace of all ranks: the Trace Event Format (JSON object), for chrome://tracing and ui.perfetto.dev."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from pipeloom.core.contract.recording import TimedOperation, Transfer
from pipeloom.plugins.loggers.profiler.parts import RankTimeline
from pipeloom.plugins.loggers.profiler.times import Times

#: Names of ``chrome://tracing``'s colours; other viewers choose their own.
_COLOURS = {
    "forward": "thread_state_running",
    "backward": "thread_state_iowait",
    "update": "rail_animation",
    "transfer": "yellow",
    "all_reduce": "rail_load",
}
#: Operations of one micro-batch closer than this make one span of work, in nanoseconds.
_CLOSE = 300_000
#: The tracks of a rank: work and operations of each thread of the engine come from ``_FIRST_THREAD`` on.
_STEPS, _FIRST_THREAD, _WAITING, _OWN = 0, 1, 90, 91


def trace_events(
    times: Times, timelines: Sequence[RankTimeline], transfers: Sequence[Transfer], first: int
) -> List[Dict[str, Any]]:
    """Return the events; microseconds since the first of all. A rank is a process, and its tracks are threads."""
    zero = min([times.begin, *(begin for timeline in timelines for _, begin, _ in timeline.phases)])
    events: List[Dict[str, Any]] = []
    for timeline, rank in zip(timelines, times.ranks):
        add = _Rank(timeline.rank, zero)
        events += add.name_of_process(f"rank {timeline.rank}, stage {timeline.stage}")
        threads = sorted({run.thread for run in timeline.operations})
        tracks = {_STEPS: "steps", _WAITING: "waiting", _OWN: "own thread"}
        for thread in threads:
            tracks[_FIRST_THREAD + 2 * thread] = "work"
            tracks[_FIRST_THREAD + 2 * thread + 1] = "operations"
        events += [event for track, name in tracks.items() for event in add.name_of_track(track, name)]
        for step, (begin, end) in enumerate(_step_spans(timeline)):
            events.append(add.span(_STEPS, f"step {first + step}", "step", begin, end))
        for thread in threads:
            own = [run for run in timeline.operations if run.thread == thread]
            for work, step, part, begin, end in _work_spans(own):
                name = work if part is None else f"{work} {part}"
                args: Dict[str, Any] = {"stage": timeline.stage, "micro_batch": part, "step": first + step}
                events.append(add.span(_FIRST_THREAD + 2 * thread, name, work, begin, end, args, _COLOURS.get(work)))
            for run in own:
                args = {"operation": run.name, "micro_batch": run.micro_batch, "step": first + run.step}
                events.append(add.span(_FIRST_THREAD + 2 * thread + 1, run.type, run.work, run.begin, run.end, args))
        events += [add.span(_WAITING, name, "waiting", begin, end) for name, begin, end in rank.waits]
        events += [add.span(_OWN, name, "own thread", begin, end) for name, begin, end in timeline.phases]
    return [*events, *_arrows(timelines, transfers, zero)]


class _Rank:
    def __init__(self, rank: int, zero: int) -> None:
        self._rank, self._zero = rank, zero

    def name_of_process(self, name: str) -> List[Dict[str, Any]]:
        return [
            {"ph": "M", "name": "process_name", "pid": self._rank, "args": {"name": name}},
            {"ph": "M", "name": "process_sort_index", "pid": self._rank, "args": {"sort_index": self._rank}},
        ]

    def name_of_track(self, track: int, name: str) -> List[Dict[str, Any]]:
        who = {"pid": self._rank, "tid": track}
        return [
            {"ph": "M", "name": "thread_name", **who, "args": {"name": name}},
            {"ph": "M", "name": "thread_sort_index", **who, "args": {"sort_index": track}},
        ]

    def span(
        self,
        track: int,
        name: str,
        category: str,
        begin: int,
        end: int,
        args: Optional[Dict[str, Any]] = None,
        colour: Optional[str] = None,
    ) -> Dict[str, Any]:
        event = {
            "ph": "X",
            "name": name,
            "cat": category,
            "pid": self._rank,
            "tid": track,
            "ts": (begin - self._zero) / 1e3,
            "dur": (end - begin) / 1e3,
        }
        if args is not None:
            event["args"] = args
        if colour is not None:
            event["cname"] = colour
        return event


def _step_spans(timeline: RankTimeline) -> Iterator[Tuple[int, int]]:
    """Yield the steps of a rank, from its first operation to that of the next step."""
    begins = [
        min([run.begin for run in timeline.operations if run.step == step], default=None)
        for step in range(timeline.steps)
    ]
    known = [begin for begin in begins if begin is not None]
    ends = [*known[1:], max([run.end for run in timeline.operations], default=0)]
    yield from zip(known, ends)


def _work_spans(operations: Sequence[TimedOperation]) -> Iterator[Tuple[str, int, Optional[int], int, int]]:
    """Yield ``(work, step, micro-batch, begin, end)`` of operations of a thread that follow each other."""
    key: Any = None
    begin = end = 0
    for run in operations:
        here = (run.work, run.step, run.micro_batch)
        if here == key and run.begin - end < _CLOSE:
            end = max(end, run.end)
            continue
        if key is not None:
            yield (*key, begin, end)
        key, begin, end = here, run.begin, run.end
    if key is not None:
        yield (*key, begin, end)


def _arrows(timelines: Sequence[RankTimeline], transfers: Sequence[Transfer], zero: int) -> Iterator[Dict[str, Any]]:
    """Yield an arrow from each operation whose result goes to another stage to the operation that uses it there.

    The ranks of two stages are paired by their order, as data-parallel ranks are.
    """
    names = {name for transfer in transfers for name in (transfer.producer, transfer.consumer)}
    stages: Dict[int, List[Tuple[int, Dict[Any, TimedOperation]]]] = {}
    for timeline in timelines:
        runs = {(run.name, run.step, run.micro_batch): run for run in timeline.operations if run.name in names}
        stages.setdefault(timeline.stage, []).append((timeline.rank, runs))
    number = 0
    for transfer in transfers:
        for (source, sent), (target, used) in zip(stages.get(transfer.source, ()), stages.get(transfer.target, ())):
            for (name, step, part), run in sent.items():
                reader = used.get((transfer.consumer, step, part))
                if name != transfer.producer or reader is None:
                    continue
                number += 1
                both = {"name": f"{run.work} {part}", "cat": "transfer", "id": number}
                # Within the two spans: a viewer binds an arrow to the span that it begins and ends in.
                sends = {"ph": "s", **both, "pid": source, "tid": _FIRST_THREAD + 2 * run.thread + 1}
                yields = {"ph": "f", "bp": "e", **both, "pid": target, "tid": _FIRST_THREAD + 2 * reader.thread + 1}
                yield {**sends, "ts": (run.begin + run.end) / 2e3 - zero / 1e3}
                yield {**yields, "ts": (reader.begin + reader.end) / 2e3 - zero / 1e3}
