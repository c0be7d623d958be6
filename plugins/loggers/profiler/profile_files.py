"""The files of a profile, in the folder ``profile`` of the run."""

from __future__ import annotations

import json
from typing import Any, Sequence

from pipeloom.core.base.files import replace_file
from pipeloom.core.base.output import outliving
from pipeloom.plugins.loggers.profiler.chrome import trace_events
from pipeloom.plugins.loggers.profiler.parts import merge
from pipeloom.plugins.loggers.profiler.summary import as_text, summarize
from pipeloom.plugins.loggers.profiler.times import measure_times

FOLDER, TRACE, TEXT, FIGURES = "profile", "trace.json", "summary.txt", "summary.json"


def write_profile(run: Any, parts: Sequence[bytes], first: int) -> None:
    """Write the trace and the summary of what all ranks recorded, from step ``first`` on, and print the summary."""
    timelines, transfers = merge(parts)
    if not any(timeline.operations for timeline in timelines):
        run.say("profile    nothing: no operation was recorded")
        return
    times = measure_times(timelines)
    summary = summarize(times, timelines, transfers, first, run.config.train_global_batch_size)
    folder = run.directory / FOLDER
    trace = {
        "displayTimeUnit": "ms",
        "otherData": {
            "steps": summary["steps"],
            "clock": f"that of rank 0; other ranks +- {summary['clock_exactness_ms']:.3f} ms",
            "clock_exactness_ms": {timeline.rank: timeline.exactness / 1e6 for timeline in timelines},
            "operations_lost": summary["operations_lost"],
        },
        "traceEvents": trace_events(times, timelines, transfers, first),
    }
    with outliving(folder):
        folder.mkdir(exist_ok=True)
        replace_file(folder / TRACE, json.dumps(trace, separators=(",", ":")).encode())
        replace_file(folder / FIGURES, json.dumps(summary, indent=1).encode())
        replace_file(folder / TEXT, as_text(summary, len(timelines)).encode())
    run.say(f"profile    {folder / TRACE} (chrome://tracing, ui.perfetto.dev)")
    run.say(as_text(summary).rstrip())
