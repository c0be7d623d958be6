"""A line in the log before the graph is compiled."""

import pipeloom


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    run.say(f"begins     {run.plan.model.name}, {run.total_steps} steps, in {run.directory.name}")
