"""The whole job is killed again and again, and goes on by --resume auto: python tests/faults/kills.py --kills 50 --seed
1

At random instants, and at the write points of checkpoints. In the end the curve must be that of a run nobody disturbed,
bit for bit.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import MODEL, PP2, Job, checkpoints, curve, newest


@dataclass(frozen=True)
class Kill:
    """What was struck (an instant, or a write point), the step that the next start went on from, and what was then
    there.
    """

    what: str
    resumed_from: int
    whole: int


class Disturbed:
    """A run of ``steps`` steps that is killed and goes on; ``layout`` is where."""

    def __init__(self, folder: Path, steps: int, save_every: int, layout: Sequence[str] = PP2) -> None:
        self.folder = folder
        self._flags = [
            *MODEL,
            *layout,
            "--train_steps",
            str(steps),
            "--save_every",
            str(save_every),
            "--resume",
            "auto",
        ]
        self.kills: List[Kill] = []
        self.over = False

    def kill_at(self, seconds: float) -> None:
        """SIGKILL to every process of the job, ``seconds`` after its start."""
        job = Job(self.folder, "run", *self._flags)
        while job.process.poll() is None and time.monotonic() - job.began < seconds:
            time.sleep(0.005)
        job.kill()
        self._note(job, f"after {seconds:.2f} s")

    def kill_in_step(self, step: int, delay: float) -> None:
        """SIGKILL, ``delay`` seconds after step ``step`` of this start was logged."""
        job = Job(self.folder, "run", *self._flags)
        while job.process.poll() is None and len(re.findall(r"^step ", job.said(), re.M)) < step:
            time.sleep(0.005)
        time.sleep(delay)
        job.kill()
        self._note(job, f"{delay * 1000:.0f} ms after its step {step}")

    def kill_at_point(self, number: int) -> None:
        """SIGKILL at a write point of a checkpoint, counted from the start."""
        job = Job(self.folder, "run", *self._flags, faults=f"point {number}")
        self._note(job, f"write point {number}")

    def _note(self, job: Job, what: str) -> None:
        ended = job.end()
        assert not ended.orphans, (what, ended.orphans)
        if ended.code == 0:
            self.over = True
            return
        assert ended.code == -9, ended.said  # killed, and not failed by itself
        struck = re.search(r"^struck (.*)$", ended.said, re.M)
        resumed = re.search(r"^resume .*: step (\d+) of", ended.said, re.M)
        whole = newest(job.directory)
        self.kills.append(
            Kill(
                what + (f" ({struck.group(1)})" if struck else ""),
                int(resumed.group(1)) if resumed else 0,
                int(whole.name.split("_")[1]) if whole else 0,
            )
        )

    def finish(self) -> List:
        """Let it run to its end; its curve."""
        if not self.over:
            ended = Job(self.folder, "run", *self._flags).end()
            assert ended.code == 0, ended.said
        assert checkpoints(self.folder / "run")
        return curve(self.folder / "run")


def undisturbed(folder: Path, steps: int, layout: Sequence[str] = PP2) -> List:
    ended = Job(folder, "whole", *MODEL, *layout, "--train_steps", str(steps), "--save_every", "0").end()
    assert ended.code == 0, ended.said
    return curve(folder / "whole")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.kills} kills, seed {arguments.seed}", flush=True)
    lost = strike_and_compare(arguments.kills, arguments.seed, lambda kill: print(kill, flush=True))
    print(f"steps of the curve that differ from the undisturbed one: {lost}")
    return 1 if lost else 0


def strike_and_compare(kills: int, seed: int, report=lambda kill: None, steps: int = 300) -> int:
    """Kill a run ``kills`` times; how many steps of its curve differ from the undisturbed one."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="pipeloom-kills-") as name:
        folder = Path(name)
        run = Disturbed(folder, steps, save_every=2)
        while len(run.kills) < kills and not run.over:
            kind = len(run.kills) % 5
            if kind == 0:
                run.kill_at(generator.uniform(0, 12))
            elif kind in (1, 2):
                run.kill_in_step(generator.randrange(1, 7), generator.uniform(0, 0.3))
            else:
                run.kill_at_point(generator.randrange(0, 90))
            if run.kills:
                report(run.kills[-1])
        assert len(run.kills) == kills, f"the run was over after {len(run.kills)} kills: give it more steps"
        mine, whole = run.finish(), undisturbed(folder, steps)
        return sum(a != b for a, b in zip(mine, whole)) + abs(len(mine) - len(whole))


if __name__ == "__main__":
    raise SystemExit(main())
