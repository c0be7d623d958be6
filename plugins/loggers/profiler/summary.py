"""The figures of a profile: as an object, for ``summary.json``, and as tables for people."""

from __future__ import annotations

from statistics import mean
from typing import Any, Dict, List, Optional, Sequence

from pipeloom.core.contract.recording import WORK, Transfer
from pipeloom.plugins.loggers.profiler.parts import RankTimeline
from pipeloom.plugins.loggers.profiler.times import PASSES, WAITS, RankTimes, Times

#: Types of operations in the table, the largest ones of each stage; ranks in what is printed.
_TYPES, _RANKS = 6, 16
_HEADS = {"transfer": "send/receive", "all_reduce": "all-reduce"}


def summarize(
    times: Times, timelines: Sequence[RankTimeline], transfers: Sequence[Transfer], first: int, samples: int
) -> Dict[str, Any]:
    """Return the figures, milliseconds a step unless they say otherwise; ``samples``: of a step, which are from
    ``first`` on.
    """
    length = (times.end - times.begin) / times.steps / 1e6
    ranks = [_of_rank(times, rank) for rank in times.ranks]
    return {
        "steps": [first, first + times.steps - 1],
        "step_ms": length,
        "samples_per_second": samples / length * 1e3,
        "bubble": mean(rank["bubble"] for rank in ranks),
        "ranks": ranks,
        "transfers": [_of_transfer(transfer, timelines) for transfer in transfers],
        "clock_exactness_ms": max(timeline.exactness for timeline in timelines) / 1e6,
        "operations_lost": sum(timeline.lost for timeline in timelines),
    }


def _of_rank(times: Times, rank: RankTimes) -> Dict[str, Any]:
    """``bubble`` is the share of the step in which the rank does nothing."""
    unit = 1e6 * times.steps
    waiting = {name: value / unit for name, value in rank.waiting.items()}
    return {
        "rank": rank.rank,
        "stage": rank.stage,
        "work": {name: rank.work.get(name, 0) / unit for name in WORK},
        "waiting": waiting,
        "bubble": sum(waiting.values()) * unit / (times.end - times.begin),
        "own_thread": {name: value / unit for name, value in rank.phases.items()},
        "order": order_of_work(rank),
        "micro_batches": {what: _passes(times, rank, what) for what in PASSES},
        "types": {name: value / unit for name, value in sorted(rank.types.items(), key=lambda item: -item[1])},
    }


def order_of_work(rank: RankTimes) -> List[str]:
    """Return the passes of the first recorded step in the order in which they began: ``["F0", "F1", "B0", ...]``."""
    own = [(found.begin, what, number) for (what, step, number), found in rank.passes.items() if step == 0]
    return [f"{what[0].upper()}{number}" for _, what, number in sorted(own)]


def _passes(times: Times, rank: RankTimes, what: str) -> List[Dict[str, float]]:
    """For each micro-batch: ``busy``, and ``begin`` and ``end`` from the begin of the step on; means of the steps."""
    count = 1 + max([number for known, _, number in rank.passes if known == what] or [-1])
    found = []
    for number in range(count):
        own = [
            (step, rank.passes[(what, step, number)])
            for step in range(times.steps)
            if (what, step, number) in rank.passes
        ]
        found.append(
            {
                "begin": mean((one.begin - times.step_begins[step]) / 1e6 for step, one in own),
                "end": mean((one.end - times.step_begins[step]) / 1e6 for step, one in own),
                "busy": mean(one.busy / 1e6 for _, one in own),
            }
        )
    return found


def _of_transfer(transfer: Transfer, timelines: Sequence[RankTimeline]) -> Dict[str, Any]:
    """``least_ms``: the shortest time from the end of the producer to the begin of the consumer, between the first
    ranks of both stages: no more than this is needed on the way.
    """
    sent = _ends(transfer.producer, transfer.source, timelines, begins=False)
    used = _ends(transfer.consumer, transfer.target, timelines, begins=True)
    ways = [used[key] - sent[key] for key in sent if key in used]
    least: Optional[float] = min(ways) / 1e6 if ways else None
    return {"from": transfer.source, "to": transfer.target, "producer": transfer.producer, "least_ms": least}


def _ends(name: str, stage: int, timelines: Sequence[RankTimeline], begins: bool) -> Dict[Any, int]:
    timeline = next((timeline for timeline in timelines if timeline.stage == stage), None)
    runs = [] if timeline is None else timeline.operations
    return {(run.step, run.micro_batch): run.begin if begins else run.end for run in runs if run.name == name}


def as_text(summary: Dict[str, Any], most: int = _RANKS) -> str:
    """Return the figures as tables, of at most ``most`` ranks."""
    first, last = summary["steps"]
    ranks = summary["ranks"][:most]
    length = summary["step_ms"]
    lines = [
        f"steps {first} to {last}: {length:.1f} ms a step, {summary['samples_per_second']:.1f} samples/s; the ranks "
        f"wait {summary['bubble']:.0%} of it. Milliseconds of a step, and shares:",
        "",
    ]
    works = [name for name in WORK if any(rank["work"][name] > 0 for rank in summary["ranks"])]
    rows = [["rank", "stage", *(_HEADS.get(name, name) for name in works), "waiting"]]
    for rank in ranks:
        values = [*(rank["work"][name] for name in works), sum(rank["waiting"].values())]
        rows.append([str(rank["rank"]), str(rank["stage"]), *(f"{v:.1f} {v / length:4.0%}" for v in values)])
    lines += _table(rows)
    rows = [["waiting:", "", *WAITS, "", "own thread:", "data", "launch", "other"]]
    for rank in ranks:
        own = dict(rank["own_thread"])
        launch, data = own.pop("launch", 0.0), own.pop("data", 0.0)
        own.pop("wait for the loss", None)
        figures = [f"{rank['waiting'][name]:.1f}" for name in WAITS]
        rest = [f"{data:.1f}", f"{max(0.0, launch - data):.1f}", f"{sum(own.values()):.1f}"]
        rows.append([str(rank["rank"]), str(rank["stage"]), *figures, "", "", *rest])
    lines += ["", *_table(rows), ""]
    for rank in _one_of_each_stage(ranks):
        lines += [*_of_stage(rank), ""]
    if len(summary["ranks"]) > most:
        lines.append(f"and {len(summary['ranks']) - most} more ranks")
    return "\n".join(lines).rstrip() + "\n"


def _of_stage(rank: Dict[str, Any]) -> List[str]:
    busy = sum(rank["work"].values())
    largest = list(rank["types"].items())[:_TYPES]
    lines = [f"stage {rank['stage']} (rank {rank['rank']})  {' '.join(rank['order'])}"]
    for what in PASSES:
        each = rank["micro_batches"][what]
        if each:
            spans = ", ".join(f"{one['begin']:.0f}-{one['end']:.0f}" for one in each[:8])
            lines.append(
                f"  {what:8} {mean(one['busy'] for one in each):6.1f} ms a micro-batch, at {spans}"
                f"{', ...' if len(each) > 8 else ''}"
            )
    lines.append(
        "  largest  " + ", ".join(f"{name} {value:.1f} ({value / max(busy, 1e-9):.0%})" for name, value in largest)
    )
    return lines


def _one_of_each_stage(ranks: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    found: Dict[int, Dict[str, Any]] = {}
    for rank in ranks:
        found.setdefault(rank["stage"], rank)
    return [found[stage] for stage in sorted(found)]


def _table(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
