"""console: a line every few steps; on a terminal a progress bar below them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pipeloom

#: The progress bar of the run, while there is one.
_bars: Dict[Path, Tuple[Any, Any]] = {}


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    if not run.is_main or not sys.stdout.isatty():
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar.start()
    _bars[run.directory] = (bar, bar.add_task("training", total=run.total_steps, completed=run.start_step))


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if not run.is_main:
        return
    bar, task = _bars.get(run.directory, (None, None))
    if bar is not None:
        bar.update(task, completed=step)
    if metrics is None:
        return
    _show(run, format_line(step, run.total_steps, metrics, run.plan.model.outputs))


@pipeloom.hookimpl
def pipeloom_on_evaluate(run, step, metrics):
    if run.is_main:
        _show(
            run,
            " | ".join(
                [
                    f"eval step {step}",
                    *([f"{name} {value:.4f}" for name, value in metrics.items()] or ["nothing to compare with"]),
                ]
            ),
        )


def _show(run, line: str) -> None:
    """Print a line, above the progress bar if there is one, and note it in the log."""
    run.note(line)
    bar, _ = _bars.get(run.directory, (None, None))
    if bar is not None:
        bar.console.print(line, highlight=False, markup=False)
    else:
        print(line, flush=True)


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    bar, _ = _bars.pop(run.directory, (None, None))
    if bar is not None:
        bar.stop()
    if error is None and run.is_main:
        run.say(f"done: {run.done_steps} steps; logs in {run.directory}")


def format_line(step: int, total: int, metrics, outputs) -> str:
    """One logged step: ``step 20/200 | loss 8.1 | ... | ETA 0:12``."""
    parts = [f"step {step:>{len(str(total))}}/{total}", f"loss {metrics['loss']:.4f}"]
    parts += [f"{name} {metrics[name]:.4f}" for name in outputs]
    parts.append(f"lr {metrics['lr']:.2e}")
    if metrics["samples_per_second"]:
        minutes, seconds = divmod(round(metrics["eta_seconds"]), 60)
        hours, minutes = divmod(minutes, 60)
        parts += [
            f"{metrics['samples_per_second']:.1f} samples/s",
            f"{metrics['tokens_per_second']:.0f} tokens/s",
            *([f"MFU {metrics['mfu']:.0%}"] if "mfu" in metrics else []),
            f"ETA {hours}:{minutes:02d}:{seconds:02d}",
        ]
    return " | ".join(parts)
