"""How the run ended, in a file."""

import pipeloom


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    if run.is_main:
        how = "well" if error is None else f"by {type(error).__name__}"
        (run.directory / "end.txt").write_text(f"{how} after step {run.done_steps}\n")
