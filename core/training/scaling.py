"""The dynamic loss scale as the trainer sees it: which steps it left out, what a checkpoint keeps of it."""

from __future__ import annotations

from typing import Any, Callable, Optional

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.checkpoint.manifest import Position
from pipeloom.core.contract.executor import TrainingState
from pipeloom.core.contract.loss_scale import DYNAMIC, LossScale, LossScaleRule

#: Where a loss scale that falls is of no more use: half precision then has the range that the numbers have anyway.
_LEAST = 1.0


def rule_of(config: Any) -> Optional[LossScaleRule]:
    """Return how the dynamic loss scale of a resolved ``config`` moves; ``None`` with a static one."""
    if config.loss_scale != DYNAMIC:
        return None
    return LossScaleRule(config.initial_loss_scale, config.loss_scale_window)


class LossScaling:
    """Follow the loss scale of a run. Every rank has one, and sees the same.

    The engine itself leaves out the update and its count of steps where a gradient is not finite. Whether it did is
    read after each step, since the number of the next one depends on it; PyTorch's ``GradScaler.step`` waits likewise.
    """

    def __init__(self, config: Any, say: Callable[[str], None]) -> None:
        self._rule, self._say = rule_of(config), say
        self._now: Optional[LossScale] = None
        self.is_dynamic = self._rule is not None

    def begin(self, state: TrainingState, position: Position) -> None:
        """Begin with the scale of a checkpoint's ``position``, if it has one.

        Raises ``UsageError`` for an executor that has no dynamic loss scale.
        """
        if self._rule is None:
            position.loss_scale = None
            return
        if position.loss_scale is not None:
            state.set_loss_scale(LossScale.from_dict(position.loss_scale))
        self._now = state.loss_scale()
        if self._now is None:
            raise UsageError("this executor has no dynamic loss scale: give a number, --loss_scale 1024")
        position.loss_scale = self._now.to_dict()

    def left_out(self, state: TrainingState, position: Position, number: int) -> bool:
        """Return whether step ``number``, just made, changed nothing since a gradient was not finite; count and say it.

        Raises ``RunError`` where a smaller scale would not help.
        """
        if self._now is None:
            return False
        before, now = self._now, state.loss_scale()
        assert now is not None
        self._now, position.loss_scale = now, now.to_dict()
        if not before.fell_to(now):
            return False
        position.overflows += 1
        if now.scale <= _LEAST:
            raise RunError(
                f"a gradient is not finite at step {number}, with a loss scale of {before.scale:g}: it is not the loss "
                "scale's fault; try a lower --learning_rate, a longer --warmup_steps, or --precision fp32"
            )
        self._say(
            f"overflow   a gradient is not finite at step {number}: nothing is changed, the next batch is tried with "
            f"the loss scale {now.scale:g} instead of {before.scale:g} ({position.overflows} so far)"
        )
        return True

    @property
    def scale(self) -> Optional[float]:
        """The scale as it is now; ``None`` with a static one."""
        return None if self._now is None else self._now.scale
