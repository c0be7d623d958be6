"""jsonl: ``metrics.jsonl`` in the run directory, one object per logged step."""
import json
import os

import pipeloom

_FILE = "metrics.jsonl"


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    """A resumed run logs anew what was logged after its checkpoint: those lines go, or each step would be there twice."""
    path = run.directory / _FILE
    if not run.is_main or not path.exists():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) is not None and _step(line) <= run.start_step]
    temporary = path.with_name(_FILE + ".writing")
    temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    os.replace(temporary, path)


def _step(line):
    """The step of a line; ``None`` for one that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if run.is_main and metrics is not None:
        with open(run.directory / _FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
