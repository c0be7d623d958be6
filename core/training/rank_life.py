"""The life of a rank: build, train, close."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.checkpoint.initialization import starting_point
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.report import describe_plan
from pipeloom.core.training.run import Run
from pipeloom.core.training.trainer import Trainer

#: So long may a checkpoint under way take yet when this rank has failed, in seconds. Other ranks may have gone, and
#: then it is never whole.
LAST_SAVE_SECONDS = 20.0


def train_in_rank(
    plan: Plan,
    plugins: Any,
    directory: Path,
    rank: int,
    checkpoint: Optional[Checkpoint] = None,
    started: Optional[float] = None,
) -> int:
    """Live as a rank: build, train, close. ``started``: when the command was given (default: now).

    Returns 0; errors pass through to ``run_rank``.
    """
    run = Run(plan, plugins, directory, rank, started)
    run.open()
    error: Optional[BaseException] = None
    trainer: Optional[Trainer] = None
    try:
        run.say(f"run        {_from_here(directory)}")
        run.say(describe_plan(plan))
        for line in starting_point(plan.model) if checkpoint is None else [f"weights    all from {checkpoint.path}"]:
            run.say(line)
        trainer = Trainer(run, checkpoint)
        with run.phases.phase("plugins"):
            plugins.hook.pipeloom_on_run_start(run=run)
        run.say("compiling the graph ...")
        trainer.train()
        if run.config.save_final_weights:
            trainer.save_final_weights()
    except BaseException as raised:
        error = raised
        if isinstance(raised, Exception) and trainer is not None:
            trainer.checkpoints.wait(LAST_SAVE_SECONDS)  # it is of a step before the fault
        raise
    finally:
        try:
            with run.phases.phase("plugins"):
                plugins.hook.pipeloom_on_run_end(run=run, error=error)
        except PipeloomError as second:
            if error is None:
                raise
            run.say(f"and at the end of the run: {second}")  # what ended it is the error to be told
        finally:
            for line in plugins.trace.summary() if plugins.trace is not None else ():
                run.say(line)
            run.close()
    return 0


def _from_here(path: Path) -> str:
    try:
        return os.path.relpath(path)
    except OSError:  # the folder in which the command was given has been removed
        return str(path)
