"""The checkpoints of a run as its trainer sees them: begin one, report those that are whole, wait for the last."""

from __future__ import annotations

from typing import Mapping

from pipeloom.core.base.errors import RunError
from pipeloom.core.checkpoint.describe import manifest_of, texts_of
from pipeloom.core.checkpoint.manifest import Position
from pipeloom.core.checkpoint.saver import Saver
from pipeloom.core.contract.executor import Collectives, TrainingState
from pipeloom.core.training.run import Run

#: So long may a checkpoint take before a rank that waits for it is taken as hanging, in seconds.
SAVE_SECONDS = 1800


class Checkpointing:
    """Save the state of ``run``; every rank has one and makes the same calls. Not ``enabled`` by ``--save_every 0``."""

    def __init__(self, run: Run, state: TrainingState, collectives: Collectives) -> None:
        config = run.config
        self._run, self._state = run, state
        self.enabled = config.save_every != 0
        #: The step of the newest checkpoint that was begun.
        self.saved_step = run.start_step
        if not self.enabled:
            return
        self._saver = Saver(
            run.directory,
            state,
            run.rank,
            collectives.all_gather_text,
            config.keep,
            run.plan.goal,
            config.async_save,
            texts_of(run.plan.dataset),
            spare="keep" not in config.typed,
        )
        if not self._saver.shared:
            run.say(f"note: not every node sees {run.directory}: checkpoints are gathered and written by rank 0")

    def is_best(self, evaluation: Mapping[str, float]) -> bool:
        """Return whether no evaluation before was as good; the same on every rank."""
        return self.enabled and self._saver.is_best(evaluation)

    def save(
        self, position: Position, norm_sum: float, metrics: Mapping[str, float], evaluation: Mapping[str, float]
    ) -> None:
        """Begin a checkpoint of this moment."""
        self._run.link.busy("saving a checkpoint", SAVE_SECONDS)
        self.saved_step = position.step
        name = self._state.optimizer_name
        self._saver.save(manifest_of(self._run, position, norm_sum, name, metrics, evaluation))

    def finish(self, step: int, last: bool = False) -> None:
        """Wait until a checkpoint under way is whole. ``last``: the run ends with ``step``. Raises as ``report``."""
        if self.enabled:
            self._saver.finish()
            self.report(step, last)

    def wait(self, seconds: float) -> None:
        """Wait for a checkpoint under way, so long at most."""
        if self.enabled:
            self._saver.wait(seconds)

    def report(self, step: int, last: bool = False) -> None:
        """Log and announce what has been saved since the last report.

        Raises ``RunError`` where the checkpoint of the ``last`` step of the run could not be saved.
        """
        saved = self._saver.poll() if self.enabled else None
        while saved is not None:
            if saved.path is not None:
                size, seconds = saved.bytes / 1e6, saved.seconds
                self._run.say(f"saved      {saved.path.name} ({size:.1f} MB in {seconds:.1f} s)")
                self._run.plugins.hook.pipeloom_on_checkpoint(run=self._run, step=saved.step, path=saved.path)
            elif last and saved.step == step:
                raise RunError(
                    f"the checkpoint of step {saved.step} could not be saved ({saved.error}), and the run is over"
                )
            else:
                self._run.say(
                    f"NOT SAVED  step {saved.step}: {saved.error}; training goes on, the next checkpoint is tried as "
                    "planned"
                )
            saved = self._saver.poll()
