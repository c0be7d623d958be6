"""Learning-rate schedules: one formula for the log, and its form inside the engine."""

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
        left = max(0.0, (self.total_steps - step) / self._decay_steps)
        share = {"linear": left, "polynomial": left**self.power, "cosine": (1 - math.cos(math.pi * left)) / 2}[
            self.kind
        ]
        return self.final_rate + (self.rate - self.final_rate) * share

    @property
    def _decay_steps(self) -> int:
        return max(1, self.total_steps - self.warmup_steps)

    def for_graph(self, optimizer):
        """The oneflow scheduler that follows the same formula in a graph; ``None`` for a bare constant."""
        import oneflow as flow

        schedulers = flow.optim.lr_scheduler
        if self.kind in ("linear", "polynomial"):
            inner = schedulers.PolynomialLR(
                optimizer,
                decay_batch=self._decay_steps,
                end_learning_rate=self.final_rate,
                power=self.power if self.kind == "polynomial" else 1.0,
            )
        elif self.kind == "cosine":
            inner = schedulers.CosineDecayLR(
                optimizer, decay_steps=self._decay_steps, alpha=self.final_rate / self.rate if self.rate else 0.0
            )
        elif self.warmup_steps == 0:
            return None
        else:
            inner = optimizer
        if self.warmup_steps == 0:
            return inner
        # warmup_prefix: the inner schedule starts counting after the warmup.
        return schedulers.WarmUpLR(
            inner, warmup_factor=0.0, warmup_iters=self.warmup_steps, warmup_method="linear", warmup_prefix=True
        )
