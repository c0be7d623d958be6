"""A plugin that makes a run fail as ``PIPELOOM_FAULT`` says: python entry.py --plugins
inter_first,bert,wiki_ofrecord,tests/faults/strike.py

    point N          the whole job gets SIGKILL at the N-th write point of a checkpoint that rank 0 crosses (from 0)
    kill R S         rank R gets SIGKILL when it has done step S
    raise R S        rank R raises an exception there
    nan S            the loss that is read of step S is not a number
Several are parted by semicolons. With ``PIPELOOM_FAULT_ONCE=FILE`` a fault strikes only while there is no such file,
and makes it.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pipeloom

FAULTS = [tuple(text.split()) for text in os.environ.get("PIPELOOM_FAULT", "").split(";") if text.strip()]
ONCE = os.environ.get("PIPELOOM_FAULT_ONCE")


def _strikes() -> bool:
    """Whether it is time for a fault that may strike only once."""
    if ONCE is None:
        return True
    if Path(ONCE).exists():
        return False
    Path(ONCE).touch()
    return True


def kill_the_job() -> None:
    """As when the machine goes: the launcher and all its ranks, at once."""
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    from pipeloom.core.base import files
    from pipeloom.core.training.watch import LossWatch

    points = [int(fault[1]) for fault in FAULTS if fault[0] == "point"]
    if points and run.is_main:
        left = [points[0]]

        def crossing(point):
            left[0] -= 1
            if left[0] == -1 and _strikes():
                print(f"struck {point}", flush=True)
                kill_the_job()

        files.crossing = crossing
    steps = {int(fault[1]) for fault in FAULTS if fault[0] == "nan"}
    if steps:
        note = LossWatch.note
        LossWatch.note = lambda self, step, *rest: note(
            self, step, rest[0], rest[1] * float("nan") if step in steps else rest[1], rest[2]
        )


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    for kind, *numbers in FAULTS:
        if kind in ("kill", "raise") and [run.rank, step] == list(map(int, numbers)) and _strikes():
            if kind == "raise":
                raise RuntimeError("struck")
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
