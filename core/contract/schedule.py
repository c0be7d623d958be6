"""Learning-rate schedules: the formula of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The answers to ``--lr_schedule``.
KINDS = ("constant", "linear", "polynomial", "cosine")


@dataclass(frozen=True)
class LRSchedule:
    """Linear warmup to ``rate``, then by ``kind`` down to ``final_rate`` at ``total_steps`` and no further.

    For step s counted from 0, W warmup and T total steps: ``rate * s / W`` while s < W; after it, with
    ``x = (s - W) / (T - W)`` and ``F = final_rate``:

    - constant: ``rate``
    - linear: ``F + (rate - F) (1 - x)``
    - polynomial: ``F + (rate - F) (1 - x) ** power``
    - cosine: ``F + (rate - F) (1 + cos(pi x)) / 2`` (Loshchilov & Hutter 2017, without restarts)

    The same as the schedules of transformers: with a warmup, the first step has rate 0.
    """

    rate: float
    kind: str
    warmup_steps: int
    total_steps: int
    power: float = 1.0
    final_rate: float = 0.0

    def at(self, step: int) -> float:
        """The learning rate of ``step`` (from 0)."""
        if step < self.warmup_steps:
            return self.rate * step / self.warmup_steps
        if self.kind == "constant":
            return self.rate
        left = max(0.0, (self.total_steps - step) / self.decay_steps)
        share = {"linear": left, "polynomial": left**self.power, "cosine": (1 - math.cos(math.pi * left)) / 2}[
            self.kind
        ]
        return self.final_rate + (self.rate - self.final_rate) * share

    @property
    def decay_steps(self) -> int:
        """Steps from the end of the warmup to the last."""
        return max(1, self.total_steps - self.warmup_steps)
