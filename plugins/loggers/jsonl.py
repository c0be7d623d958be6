"""jsonl: ``metrics.jsonl`` in the run directory, one object per logged step."""
import json

import pipeloom


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if run.is_main and metrics is not None:
        with open(run.directory / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
