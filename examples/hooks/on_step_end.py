"""Losses as comma-separated values, from the main rank alone."""

import pipeloom
from pipeloom.core.base.output import append_to_log


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if run.is_main and metrics is not None:  # None where nothing is logged
        append_to_log(run.directory / "losses.csv", f"{step},{metrics['loss']:.6f}\n")
