"""Learning-rate schedules: one formula for the log, and its form inside the engine."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LRSchedule:
    """Linear warmup, then ``kind``: ``"constant"`` or ``"linear"`` decay to zero at ``total_steps``.

    For step s counted from 0, W warmup and T total steps: ``rate * s / W`` while s < W; after it
    ``rate`` (constant) or ``rate * (T - s) / (T - W)`` (linear), never below 0. The same as
    ``get_linear_schedule_with_warmup`` of transformers: with a warmup, the first step has rate 0.
    """

    rate: float
    kind: str
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """The learning rate of ``step`` (from 0)."""
        if step < self.warmup_steps:
            return self.rate * step / self.warmup_steps
        if self.kind == "constant":
            return self.rate
        return self.rate * max(0.0, (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps))

    def for_graph(self, optimizer):
        """The oneflow scheduler that follows the same formula in a graph; ``None`` for a bare constant."""
        import oneflow as flow

        if self.kind == "linear":
            inner = flow.optim.lr_scheduler.PolynomialLR(
                optimizer, decay_batch=max(1, self.total_steps - self.warmup_steps), end_learning_rate=0.0, power=1.0)
        elif self.warmup_steps == 0:
            return None
        else:
            inner = optimizer
        if self.warmup_steps == 0:
            return inner
        # warmup_prefix: the inner schedule starts counting after the warmup.
        return flow.optim.lr_scheduler.WarmUpLR(inner, warmup_factor=0.0, warmup_iters=self.warmup_steps,
                                                warmup_method="linear", warmup_prefix=True)
