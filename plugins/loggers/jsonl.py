"""jsonl: ``metrics.jsonl`` and ``evaluation.jsonl`` in the run directory, one object per logged step and per evaluation."""
import json

import pipeloom


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    _append(run, "metrics.jsonl", step, metrics)


@pipeloom.hookimpl
def pipeloom_on_evaluate(run, step, metrics):
    _append(run, "evaluation.jsonl", step, metrics)


def _append(run, name, step, metrics):
    if run.is_main and metrics is not None:
        with open(run.directory / name, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
