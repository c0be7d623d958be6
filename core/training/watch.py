"""Looking at losses and gradients before anything rests on them: a log line, a checkpoint, a choice of the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError


@dataclass(frozen=True)
class Damage:
    """A step whose loss or gradient is not finite, and the records of its batch."""

    step: int
    what: str
    records: Sequence[int]

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.records[:64])) + (
            f" and {len(self.records) - 64} more" if len(self.records) > 64 else ""
        )
        return f"{self.what} at step {self.step}, with the records {shown}"


class LossWatch:
    """Keeps what each step returned until somebody looks, which waits for the devices.

    The engine runs forward, backward and update in one call, so a step is judged when its update is done.
    ``read(handle)`` gives the losses of a step and the sum of the norms after it (``Training.read`` of
    ``core/contract/executor.py``), ``records(data_step)`` the numbers of the samples of a batch.
    """

    def __init__(
        self,
        outputs: Sequence[str],
        loss_weights: Mapping[str, float],
        read: Callable[[Any], Tuple[np.ndarray, float]],
        records: Callable,
    ) -> None:
        self._outputs, self._weights = tuple(outputs), dict(loss_weights)
        self._read, self._records = read, records
        self._unseen: List[Tuple[int, int, Any]] = []
        self._values: Dict[str, float] = {}
        #: Sum of the gradient norms, before clipping, since it was last set to zero.
        self.norm_sum = 0.0

    def note(self, step: int, data_step: int, handle: Any) -> None:
        """Keep the ``handle`` of step ``step`` with batch ``data_step``, to be read later."""
        self._unseen.append((step, data_step, handle))

    def look(self) -> Optional[Damage]:
        """Read all that was noted since the last look; the first step that is damaged, if any."""
        unseen, self._unseen = self._unseen, []
        for step, data_step, handle in unseen:
            losses, self.norm_sum = self._read(handle)
            self._values = dict(zip(self._outputs, losses.tolist()))
            what = self._what_is_wrong()
            if what:
                return Damage(step, what, [int(index) for index in self._records(data_step)])
        return None

    def check(self) -> None:
        """Look, and raise ``RunError`` for a damaged step: training on would waste the run."""
        damage = self.look()
        if damage is not None:
            raise RunError(
                f"{damage}: try a lower --learning_rate, a longer --warmup_steps, or --clip_grad_norm 1 (with "
                f"--precision amp a "
                "lower --loss_scale), or leave such batches out with --on_nan skip"
            )

    def _what_is_wrong(self) -> str:
        loss = self.loss
        if not np.isfinite(loss):
            return (
                f"the loss is {loss} (" + ", ".join(f"{name} {value:g}" for name, value in self._values.items()) + ")"
            )
        return "" if np.isfinite(self.norm_sum) else "a gradient is not finite"

    @property
    def loss(self) -> float:
        return sum(weight * self._values[name] for name, weight in self._weights.items())

    @property
    def losses(self) -> Dict[str, float]:
        """The loss and its parts at the last step that was looked at."""
        return {"loss": self.loss, **self._values}
