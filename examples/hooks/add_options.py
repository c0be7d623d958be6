"""An option of a plugin's own: ``--greeting hello``, or ``plugin_options: {greeting: hello}`` in the YAML file."""

import pipeloom


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("greeting", str, "hello", resume="free", help="what the run says when it begins")


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    run.say(f"{run.config.greeting}, {run.total_steps} steps")
