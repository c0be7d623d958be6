"""profiler: --profile, where the time of a few steps goes: a Chrome trace of all ranks, and a table."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pipeloom
from pipeloom.plugins.loggers.profiler.steps import StepRange, steps_of

#: So long may collecting and writing take, in seconds, before a rank that waits is taken as hanging.
_WRITING_SECONDS = 1800


class _Profile:
    """The recording of a run on this rank."""

    def __init__(self, run: Any, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.recorder = run.training.recorder()
        self.phases: List[Tuple[str, int, int]] = []
        self.recording = False
        run.phases.listeners.append(self._note)

    def _note(self, name: str, begin: int, end: int) -> None:
        if self.recording:
            self.phases.append((name, begin, end))

    def start(self) -> None:
        self.recorder.start()
        self.recording = True

    def finish(self, run: Any) -> None:
        """Collect what all ranks recorded and write it; every rank calls it."""
        from pipeloom.plugins.loggers.profiler.clock import compare_clocks
        from pipeloom.plugins.loggers.profiler.parts import pack
        from pipeloom.plugins.loggers.profiler.profile_files import write_profile

        run.link.busy("writing the profile", _WRITING_SECONDS)
        recorded = self.recorder.stop()
        self.recording = False
        stage = run.plan.placement.stage_of(run.rank)
        part = pack(run.rank, stage, recorded, self.phases, compare_clocks(run.collectives))
        parts = run.collectives.gather_bytes(part)
        if parts is not None:
            write_profile(run, parts, self.first)


#: The recording of each run, by its id.
_profiles: Dict[int, _Profile] = {}


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "profile",
        StepRange,
        section="train",
        resume="fresh",
        transient=True,
        help="record so many steps, after a few warm ones, or the steps FIRST-LAST: RUN/profile/trace.json has all "
        "ranks on one clock (chrome://tracing, ui.perfetto.dev), summary.txt where the time goes",
    )


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    if run.config.profile is not None:
        first, last = steps_of(run.config.profile, run.start_step, run.total_steps)
        _profiles[id(run)] = _Profile(run, first, last)


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    profile = _profiles.get(id(run))
    if profile is not None and step == profile.first - 1:
        profile.start()
    if profile is not None and step == profile.last:
        profile.finish(run)
        del _profiles[id(run)]


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    profile = _profiles.pop(id(run), None)
    if profile is None or error is not None:
        return
    if profile.recording:  # all ranks have stopped after one step
        profile.finish(run)
    else:
        run.say(f"profile    nothing: the run ended before step {profile.first}")
