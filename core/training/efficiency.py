"""What a run makes of its devices and of its time: MFU, the pipeline's bubble, bytes sent, goodput."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from pipeloom.core.base.files import replace_file
from pipeloom.core.contract.executor import Peak
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.simulation import PipelineWork, simulate

#: What a run writes at its end.
SUMMARY = "summary.json"
#: The phases of a rank (``core/training/phases.py``) in which it does not train, as they are called.
_LOST = {"evaluation": "evaluation", "checkpoint": "checkpoints"}
START, LEFT_OUT = "start", "steps left out"


@dataclass(frozen=True)
class Efficiency:
    """The figures of a plan by which its speed is judged.

    ``flops_per_sample``: forward and backward pass of the model, without what ``--recompute`` does again.
    ``bubble``: the share of a step in which stages wait, by their FLOPs alone. ``bytes_sent``: by all ranks in a step.
    """

    flops_per_sample: float
    bubble: float
    bytes_sent: float
    peak: Optional[Peak]
    devices: int

    @classmethod
    def of(cls, plan: Plan, peak: Optional[Peak]) -> Efficiency:
        """Return those of ``plan`` on devices of this ``peak``."""
        return cls(
            plan.model.flops(plan.batch) / plan.batch.samples,
            bubble_of(plan),
            sum(plan.traffic().sums().values()),
            peak,
            plan.cluster.size,
        )

    def mfu(self, samples_per_second: float) -> Optional[float]:
        """Return the model FLOPs utilization: the model's FLOPs of a second over the devices' peak, from 0 to 1.

        PaLM (Chowdhery et al. 2022, appendix B): what is computed again does not count. ``None`` without a peak.
        """
        if self.peak is None:
            return None
        return samples_per_second * self.flops_per_sample / (self.peak.flops * self.devices)

    def metrics(self, samples_per_second: float) -> Dict[str, float]:
        """Return the figures of a log line: ``mfu`` where it is known, ``bubble``, ``bytes_sent``."""
        mfu = self.mfu(samples_per_second)
        return {**({} if mfu is None else {"mfu": mfu}), "bubble": self.bubble, "bytes_sent": self.bytes_sent}


def bubble_of(plan: Plan) -> float:
    """Return the share of a step in which the stages wait for each other, if FLOPs took all of the time.

    ``(p - 1) / (m + p - 1)`` for p equal stages and m micro-batches (Narayanan et al. 2021, section 2.2); unequal ones
    are simulated.
    """
    stages = plan.model.stage_blocks(plan.split)
    forward = [sum(block.cost.of(plan.batch).flops for block in blocks) for blocks in stages]
    most = max(forward)
    if len(forward) == 1 or most <= 0:
        return 0.0
    rows = [[work / most] * plan.config.grad_acc_steps for work in forward]
    return simulate(PipelineWork(rows, [[2 * work for work in row] for row in rows])).bubble


class TimeBook:
    """Where the time of a run's process goes: training, or one of the ways to lose it; in seconds."""

    def __init__(self, started: float) -> None:
        """``started``: when the command was given, as ``time.time`` counts."""
        self._started = started
        self.lost: Dict[str, float] = defaultdict(float)

    def on_phase(self, name: str, begin: int, end: int) -> None:
        """Note a phase that has ended (a listener of ``Phases``)."""
        if name in _LOST:
            self.lost[_LOST[name]] += (end - begin) / 1e9

    def start_over(self) -> None:
        """Note that the first step is done: all until now was the start."""
        self.lost.clear()
        self.lost[START] = time.time() - self._started

    def lose(self, what: str, seconds: float) -> None:
        """Note time that did not train."""
        self.lost[what] += seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the command was given."""
        return max(1e-9, time.time() - self._started)

    @property
    def goodput(self) -> float:
        """The share of the time since the command that went into steps which count, from 0 to 1."""
        return max(0.0, 1 - sum(self.lost.values()) / self.elapsed)


class RunSummary:
    """The figures of a run at its end, for ``summary.json`` and for people."""

    def __init__(self, efficiency: Efficiency, book: TimeBook, seq_length: int) -> None:
        self._efficiency, self._book, self._seq_length = efficiency, book, seq_length
        self._speeds: List[float] = []

    def note(self, metrics: Dict[str, float]) -> None:
        """Note a log line."""
        if metrics.get("samples_per_second"):
            self._speeds.append(metrics["samples_per_second"])

    def figures(self, steps: int) -> Dict[str, Any]:
        """Return the figures after ``steps`` steps of this command; speeds are medians of the log lines."""
        book, efficiency = self._book, self._efficiency
        speed = sorted(self._speeds)[len(self._speeds) // 2] if self._speeds else None
        found: Dict[str, Any] = {
            "steps": steps,
            "seconds": book.elapsed,
            "goodput": book.goodput,
            "lost_seconds": dict(book.lost),
            "samples_per_second": speed,
            "tokens_per_second": None if speed is None else speed * self._seq_length,
            "mfu": None if speed is None else efficiency.mfu(speed),
            "bubble": efficiency.bubble,
            "bytes_sent_a_step": efficiency.bytes_sent,
        }
        if efficiency.peak is not None:
            found["peak_flops_a_rank"], found["peak_from"] = efficiency.peak.flops, efficiency.peak.source
        return found

    def lines(self, steps: int) -> List[str]:
        """Return them for people."""
        found = self.figures(steps)
        whole = found["seconds"]
        parts = [f"steps {found['goodput']:.0%}"]
        parts += [f"{what} {seconds / whole:.0%}" for what, seconds in found["lost_seconds"].items() if seconds > 0]
        lines = [f"time       {whole:.1f} s: {', '.join(parts)}"]
        if found["samples_per_second"]:
            text = f"{found['samples_per_second']:.1f} samples/s, {found['tokens_per_second']:.0f} tokens/s"
            if found["mfu"] is not None:
                text += f", MFU {found['mfu']:.0%} of {found['peak_flops_a_rank'] / 1e9:.0f} GFLOP/s a rank"
                text += f" ({found['peak_from']})"
            lines.append(f"speed      {text}")
        return lines

    def write(self, directory: Any, steps: int) -> None:
        """Write ``summary.json`` into a run's directory."""
        replace_file(directory / SUMMARY, (json.dumps(self.figures(steps), indent=2) + "\n").encode())
