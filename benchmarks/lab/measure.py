"""Bytes that a job sends over the link in one step, each way."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from benchmarks.lab.job import ROOT, TwoNodeJob
from benchmarks.lab.namespaces import Counters, LabError, Link

PROBE = Path(__file__).resolve().parent / "probe.py"
#: How far two stretches of one run may differ, as a share: the engine's heartbeats, and acknowledgements.
_REPEATS = 0.02
_SLACK_BYTES = 20_000


@dataclass(frozen=True)
class StepBytes:
    """Bytes of one step on the link (Ethernet headers included), by direction."""

    bytes_0_to_1: float
    bytes_1_to_0: float


def bytes_per_step(
    link: Link,
    flags: Sequence[str],
    plugins: str,
    nproc_per_node: int = 2,
    pauses: Sequence[int] = (2, 5, 8),
    limit: float = 180.0,
    folder: Optional[Path] = None,
    root: Path = ROOT,
) -> StepBytes:
    """Run a job over ``link`` that halts after the steps ``pauses``, and read the link at each halt.

    What one halt counted less what the one before counted is the steps between them and nothing else: not
    the start, the initial weights, the compilation, nor the losses (read at the first and the last step
    alone). Raises ``LabError`` when the job fails, or when the stretches do not agree with each other.
    """
    with tempfile.TemporaryDirectory(prefix="pipeloom-lab-") as temporary:
        folder = Path(folder or temporary)
        steps = pauses[-1] + 1
        arguments = [
            "--plugins",
            f"{plugins},{PROBE}",
            *flags,
            "--train_steps",
            str(steps),
            "--log_every",
            str(10 * steps),
        ]
        env = {"PIPELOOM_LAB_PAUSES": ",".join(map(str, pauses)), "PIPELOOM_LAB_FOLDER": str(folder)}
        read: List[Counters] = []
        with TwoNodeJob(link, arguments, folder, nproc_per_node, env=env, root=root) as job:
            for step in pauses:
                marks = [folder / f"paused_{step}_{rank}" for rank in range(job.size)]
                job.wait_for(lambda marks=marks: all(mark.exists() for mark in marks), limit, f"step {step}")
                read.append(link.settled())
                (folder / f"go_{step}").touch()
            job.wait(limit)
    return _agreed(pauses, read)


def _agreed(pauses: Sequence[int], read: Sequence[Counters]) -> StepBytes:
    """The mean over all stretches, each of which must be near it."""
    whole = read[-1] - read[0]
    steps = pauses[-1] - pauses[0]
    mean = StepBytes(whole.bytes_0_to_1 / steps, whole.bytes_1_to_0 / steps)
    stretches: List[Tuple[float, float]] = []
    for first, last, before, after in zip(pauses, pauses[1:], read, read[1:]):
        moved = after - before
        stretches.append((moved.bytes_0_to_1 / (last - first), moved.bytes_1_to_0 / (last - first)))
    for stretch in stretches:
        for value, expected in zip(stretch, (mean.bytes_0_to_1, mean.bytes_1_to_0)):
            if abs(value - expected) > _REPEATS * expected + _SLACK_BYTES:
                raise LabError(f"the bytes of a step do not repeat: {stretches} by stretches of steps, mean {mean}")
    return mean
