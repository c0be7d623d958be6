"""A plugin that halts a run after given steps, on every rank, so that the link can be read while nothing moves.

``PIPELOOM_LAB_PAUSES``: the steps, ``2,6,10``; ``PIPELOOM_LAB_FOLDER``: each rank makes ``paused_<step>_<rank>``
there once its part of the step is done, and goes on when ``go_<step>`` has appeared.
"""

import os
import time
from pathlib import Path

import pipeloom

_STEPS = [int(step) for step in os.environ.get("PIPELOOM_LAB_PAUSES", "").split(",") if step]
_LIMIT_SECONDS = 300.0


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if step not in _STEPS:
        return
    import oneflow

    oneflow._oneflow_internal.eager.Sync()  # a graph's call returns before its work is done
    folder = Path(os.environ["PIPELOOM_LAB_FOLDER"])
    (folder / f"paused_{step}_{run.rank}").touch()
    end = time.monotonic() + _LIMIT_SECONDS
    while not (folder / f"go_{step}").exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody made {folder}/go_{step}")
        time.sleep(0.02)
