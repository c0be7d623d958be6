"""jsonl: ``metrics.jsonl`` and ``evaluation.jsonl`` in the run directory, one object per logged step and per
evaluation.
"""

import json

import pipeloom
from pipeloom.core.base.files import replace_file
from pipeloom.core.base.output import append_to_log, outliving

_METRICS, _EVALUATION = "metrics.jsonl", "evaluation.jsonl"


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    """Remove what was logged after the checkpoint that the run goes on from: it logs those steps again."""
    for path in (run.directory / _METRICS, run.directory / _EVALUATION):
        if run.is_main and path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= run.start_step]
            with outliving(path):
                replace_file(path, "".join(line + "\n" for line in kept).encode())


def _step(line):
    """The step of a line; one that was cut off is later than any."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    _append(run, _METRICS, step, metrics)


@pipeloom.hookimpl
def pipeloom_on_evaluate(run, step, metrics):
    _append(run, _EVALUATION, step, metrics)


def _append(run, name, step, metrics):
    if run.is_main and metrics is not None:
        append_to_log(run.directory / name, json.dumps({"step": step, **metrics}) + "\n")
