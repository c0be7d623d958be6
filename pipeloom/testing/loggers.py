"""Checks of what listens to a run: it survives whatever a run may bring, and writes where it should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, List, Mapping, Optional

from pipeloom.core.base.errors import RunError
from pipeloom.core.training.run import Run
from pipeloom.testing.check import ConformanceError
from pipeloom.testing.subject import Subject

#: Metrics as they come; those of a run that diverged; a line without what most steps have.
METRICS = {"loss": 2.5, "lr": 1e-4, "samples_per_second": 12.0, "grad_norm": 1.0}
DIVERGED = {**METRICS, "loss": math.nan, "grad_norm": math.inf}


def survives_a_run(subject: Subject, folder: Path) -> None:
    """All life-cycle hooks: of a run to its end, one that goes on from a checkpoint, one that fails, on every rank."""
    life(subject, folder / "whole", 0)
    life(subject, folder / "whole", 0, start_step=3, when="of a run that goes on from step 3")
    life(subject, folder / "other", 1, when="on rank 1")
    life(subject, folder / "failed", 0, error=RunError("a rank has ended"), when="of a run that failed")
    early(subject, folder / "early")


def writes_on_the_main_rank_alone(subject: Subject, folder: Path) -> None:
    (folder / "rank").mkdir()
    life(subject, folder / "rank", 1, when="on rank 1")
    # The folder of a checkpoint is the fake run's own.
    written = sorted(path.name for path in (folder / "rank").iterdir() if path.name != "checkpoints")
    if written:
        raise ConformanceError(
            f"on rank 1 it writes {', '.join(written)} into the run directory, as every rank would: ask run.is_main "
            "first"
        )


def life(
    subject: Subject,
    directory: Path,
    rank: int,
    start_step: int = 0,
    error: Optional[BaseException] = None,
    when: str = "of a run",
) -> None:
    """Call the hooks in the order of a run of six steps that is evaluated and saved in its middle and at its end."""
    run = _run(subject, directory, rank, start_step)
    call = _Caller(subject, when)
    call("pipeloom_on_run_start", run=run)
    for step in range(start_step + 1, 7):
        metrics = None if step == 2 else DIVERGED if step == 5 else METRICS
        call("pipeloom_on_step_end", run=run, step=step, metrics=_copy(metrics))
        if step in (3, 6):
            call("pipeloom_on_evaluate", run=run, step=step, metrics={"loss": 2.0, "accuracy": 0.5})
            call("pipeloom_on_evaluate", run=run, step=step, metrics={"f1": 0.25})  # without labels there is no loss
            if rank == 0:
                path = directory / "checkpoints" / f"step_{step:07d}"
                path.mkdir(parents=True, exist_ok=True)
                call("pipeloom_on_checkpoint", run=run, step=step, path=path)
        if error is not None and step == 4:
            break
    call("pipeloom_on_run_end", run=run, error=error)
    run.close()


def early(subject: Subject, directory: Path) -> None:
    """A run that ends before it has begun calls the last hook alone."""
    run = _run(subject, directory, 0, 0)
    _Caller(subject, "of a run that ended before pipeloom_on_run_start")(
        "pipeloom_on_run_end", run=run, error=RunError("the model does not fit")
    )
    run.close()


def _run(subject: Subject, directory: Path, rank: int, start_step: int) -> Run:
    directory.mkdir(parents=True, exist_ok=True)
    run = Run(subject.plan, subject.plugins, directory, rank)
    run.start_step = run.done_steps = start_step
    run.total_steps = 6
    return run


def _copy(metrics: Optional[Mapping[str, float]]) -> Optional[dict]:
    return None if metrics is None else dict(metrics)


class _Caller:
    def __init__(self, subject: Subject, when: str) -> None:
        self._subject, self._when = subject, when
        self.called: List[str] = []

    def __call__(self, hook: str, **arguments: Any) -> None:
        if hook not in self._subject.hooks:
            return
        try:
            self._subject.hook(hook, **arguments)
        except Exception as error:
            given = {name: value for name, value in arguments.items() if name not in ("run", "path")}
            raise ConformanceError(
                f"{hook} {self._when} fails with {given}: {type(error).__name__}: {' '.join(str(error).split())}; a "
                "fault of a listener ends the run"
            ) from error
