"""Turning what a step returned into the numbers of a log line."""
from __future__ import annotations

import time
from typing import Dict, Optional, Sequence

import numpy as np

from pipeloom.core.errors import RunError


class StepMeter:
    """Loss, learning rate and throughput of logged steps.

    Throughput is over the time since the last logged step and leaves out the first step, which compiles
    the graph. ``tokens_per_second`` counts the whole sequence length, padding included, as Megatron-LM
    and LiBai do.
    """

    def __init__(self, outputs: Sequence[str], loss_weights, samples_per_step: int, seq_length: int, total_steps: int) -> None:
        self._outputs, self._weights = tuple(outputs), dict(loss_weights)
        self._samples, self._seq_length, self._total = samples_per_step, seq_length, total_steps
        self._last: Optional[tuple] = None

    def measure(self, step: int, packed: np.ndarray, lr: float, norms: float) -> Dict[str, float]:
        """Metrics of ``step`` (from 1) whose model returned ``packed``, ``(micro-batches * outputs,)``.

        ``norms`` is the sum of the gradient norms since the last measured step: ``grad_norm`` is their mean.

        Raises ``RunError`` when the loss or a gradient is not a finite number: training on would waste the run.
        """
        sums = packed.astype(np.float64).reshape(-1, len(self._outputs)).sum(axis=0)
        values = dict(zip(self._outputs, sums.tolist()))
        metrics = {"loss": sum(weight * values[name] for name, weight in self._weights.items()), **values, "lr": lr,
                   "grad_norm": norms / (step - (self._last[0] if self._last else 0))}
        if not np.isfinite(metrics["loss"]):
            parts = ", ".join(f"{name} {value:g}" for name, value in values.items())
            raise RunError(f"the loss is {metrics['loss']} at step {step} ({parts}): try a lower --learning_rate, "
                           "a longer --warmup_steps, or --clip_grad_norm 1")
        if not np.isfinite(norms):
            raise RunError(f"a gradient up to step {step} is not a finite number: try a lower --learning_rate, or with "
                           "--precision amp a lower --loss_scale")
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
    """Raise ``RunError`` when the loss on the held-out set is not a finite number."""
    if not np.isfinite(metrics["loss"]):
        parts = ", ".join(f"{name} {value:g}" for name, value in metrics.items() if name != "loss")
        raise RunError(f"the loss on the held-out set is {metrics['loss']} after step {step} ({parts}): try a lower --learning_rate")
