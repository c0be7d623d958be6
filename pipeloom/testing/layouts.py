"""Checks by training: the layout changes nothing (parity), by the machinery of ``entry.py parity``."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Callable, Dict, Sequence, Tuple

from pipeloom.core.base.errors import PipeloomError, RunError
from pipeloom.plugins.commands.parity import Trained, compare, for_comparison, single_process, train_alone
from pipeloom.testing.check import Check, ConformanceError, need
from pipeloom.testing.elsewhere import environment
from pipeloom.testing.models import tensor_refusal
from pipeloom.testing.subject import Subject

#: The law of parity: no loss and no final parameter differs by more, after so many steps.
TOLERANCE, STEPS = 1e-4, 4

LAYOUTS: Dict[str, Tuple[str, ...]] = {
    "PP2": ("--nnodes", "2", "--nproc_per_node", "1", "--nums_split", "2", "--grad_acc_steps", "2"),
    "DP2": ("--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1", "--grad_acc_steps", "2"),
    "TP2": ("--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1", "--tensor_parallel", "2"),
    "PP2xDP2": ("--nnodes", "2", "--nproc_per_node", "2", "--nums_split", "2", "--grad_acc_steps", "2"),
    "DP2_spread": ("--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1", "--shard", "optimizer"),
}
#: SGD shows a gradient that is off by a factor, which AdamW hides; its rate is one at which that shows.
OPTIMIZERS: Dict[str, Tuple[str, ...]] = {
    "adamw": ("--optimizer", "adamw"),
    "sgd": ("--optimizer", "sgd", "--learning_rate", "0.1"),
}


def layout_check(layout: str, optimizer: str = "") -> Check:
    """The check that ``layout`` trains as one process does; ``optimizer``: a built-in one, "" for that of the run."""
    name = "_".join(filter(None, ("trains_alike_in", layout, optimizer)))
    return Check(name, _comparing(layout, optimizer), engine=True)


def _comparing(layout: str, optimizer: str) -> Callable[[Subject, Path], None]:
    def check(subject: Subject, folder: Path) -> None:
        if layout == "TP2" and tensor_refusal(subject):
            import pytest

            pytest.skip(f"no tensor parallelism: {tensor_refusal(subject)}")
        flags = _optimizer_flags(subject, optimizer)
        key = ("one process", *flags)
        if key not in subject.trained:
            subject.trained[key] = _train(subject, flags, alone=True)
        found = compare(_train(subject, (*LAYOUTS[layout], *flags)), subject.trained[key], subject.plan.model.outputs)
        need(
            found.within(TOLERANCE),
            f"{layout}: a loss differs by {found.loss:.1e} from one process, the parameter {found.worst_parameter} by "
            f"{found.parameter:.1e}, after {STEPS} steps ({TOLERANCE:g} is allowed): losses and metrics must be sums "
            "weighted by SAMPLE_WEIGHT or a field of 'normalize', randomness keyed by DROPOUT_SEEDS, and nothing may "
            "depend on the rank, the micro-batch or the stage",
        )

    return check


def _optimizer_flags(subject: Subject, optimizer: str) -> Tuple[str, ...]:
    """None where a plugin of the run has its own optimizer; no learning rate where one has its own schedule."""
    declared = subject.config.declared
    if not optimizer or "optimizer" not in declared:
        return ()
    flags = OPTIMIZERS[optimizer]
    pairs = zip(flags[::2], flags[1::2])
    return tuple(part for flag, value in pairs if flag[2:] in declared for part in (flag, value))


def _train(subject: Subject, flags: Sequence[str], alone: bool = False) -> Trained:
    said = io.StringIO()
    try:
        config, _ = subject.parse(subject.names, *flags)
        config = for_comparison(config, STEPS)
        with contextlib.redirect_stderr(said):
            config = single_process(config) if alone else config
            return train_alone(config, "the training", [sys.executable, "-m", "pipeloom"], environment())
    except RunError as error:
        lines = [line for line in said.getvalue().splitlines() if "error" in line.lower()] or [str(error)]
        raise ConformanceError(f"training with {' '.join(flags) or 'one process'} fails: {lines[-1]}") from error
    except PipeloomError as error:
        raise ConformanceError(f"training with {' '.join(flags) or 'one process'} is refused: {error}") from error
