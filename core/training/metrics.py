"""The numbers of a log line, from what a step returned."""

from __future__ import annotations

import time
from typing import Dict, Mapping, Optional

import numpy as np

from pipeloom.core.base.errors import RunError


class StepMeter:
    """Loss, learning rate and throughput of logged steps.

    Throughput is over the time since the last logged step and leaves out the first step, which compiles
    the graph. ``tokens_per_second`` counts the whole sequence length, padding included, as Megatron-LM
    and LiBai do.
    """

    def __init__(self, samples_per_step: int, seq_length: int, total_steps: int) -> None:
        self._samples, self._seq_length, self._total = samples_per_step, seq_length, total_steps
        self._last: Optional[tuple] = None

    def measure(self, step: int, losses: Mapping[str, float], lr: float, grad_norm: float) -> Dict[str, float]:
        """Metrics of ``step`` (from 1): its ``losses``, and ``grad_norm``, the mean norm since the last log line."""
        metrics = {**losses, "lr": lr, "grad_norm": grad_norm}
        now = time.perf_counter()
        if self._last is not None:
            then_step, then = self._last
            per_second = (step - then_step) * self._samples / max(now - then, 1e-9)
            metrics["samples_per_second"] = per_second
            metrics["tokens_per_second"] = per_second * self._seq_length
            metrics["eta_seconds"] = (self._total - step) * self._samples / per_second
        else:
            # The first step compiles the graph: a rate of it would say nothing about training.
            metrics["samples_per_second"] = metrics["tokens_per_second"] = 0.0
            metrics["eta_seconds"] = 0.0
        self._last = (step, now)
        return metrics

    def leave_out(self, seconds: float) -> None:
        """Time since the last measured step that was not spent on training."""
        if self._last is not None:
            self._last = (self._last[0], self._last[1] + seconds)


def check_evaluation(step: int, metrics: Dict[str, float]) -> None:
    """Raise ``RunError`` when the loss on the held-out set, where it has one, is not a finite number."""
    if "loss" in metrics and not np.isfinite(metrics["loss"]):
        parts = ", ".join(f"{name} {value:g}" for name, value in metrics.items() if name != "loss")
        raise RunError(
            f"the loss on the held-out set is {metrics['loss']} after step {step} ({parts}): try a lower "
            f"--learning_rate"
        )
