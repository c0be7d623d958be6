"""Runs that are struck by faults, and what must be true of them afterwards; for the tests here and
benchmarks/reliability.py.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pipeloom.core.base.variables import outside_environment  # noqa: E402
from pipeloom.core.checkpoint.store import FOLDER, Store  # noqa: E402  (the checkout's root is on the path now)

STRIKE = Path(__file__).resolve().parent / "strike.py"
#: A model whose steps take a few milliseconds, with dropout, on two ranks.
MODEL = [
    "--num_hidden_layers",
    "1",
    "--num_attention_heads",
    "1",
    "--seq_length",
    "64",
    "--train_global_batch_size",
    "8",
    "--log_every",
    "1",
    "--grad_acc_steps",
    "2",
]
PP2 = ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "2"]
ONE = ["--nnodes", "1", "--nproc_per_node", "1", "--nums_split", "1"]


_JOBS: List["Job"] = []


@atexit.register
def kill_all() -> None:
    """No job outlives the one who struck it, not even where an assertion failed."""
    for job in _JOBS:
        if job.process.poll() is None:
            job.kill()


@dataclass
class Ended:
    """How a run ended: exit code, what it said, seconds from the fault (or the start), processes that outlived it."""

    code: int
    said: str
    seconds: float
    orphans: List[int]

    @property
    def line(self) -> str:
        """The first line that says what was wrong."""
        found = re.search(r"^pipeloom: (?:error: )?.*$", self.said[self.said.find("pipeloom: error") :], re.M)
        return found.group(0) if found else ""


class Job:
    """A run of entry.py in a folder, with all its processes. ``faults`` is what strike.py reads."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *flags: str,
        faults: str = "",
        once: Optional[Path] = None,
        directory: Optional[Path] = None,
        plugins: str = "",
        **variables: str,
    ) -> None:
        self.folder, self.directory, self.log = folder, directory or folder / name, folder / f"{name}.log"
        # The run knows the plugin by an absolute path, so that a resumed one finds it too.
        names = f"{plugins}inter_first,bert,wiki_ofrecord,{STRIKE}"
        env = {
            **outside_environment(os.environ),
            "PIPELOOM_FAULT": faults,
            **({"PIPELOOM_FAULT_ONCE": str(once)} if once else {}),
            **variables,
        }
        self._output = open(self.log, "ab")
        self._from = self._output.tell()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "entry.py"), "--plugins", names, "--output_dir", str(self.directory), *flags],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=folder,
            start_new_session=True,
            # What runs in the background of a shell ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._family = {self.process.pid}
        _JOBS.append(self)

    def said(self) -> str:
        with open(self.log, "rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def family(self) -> List[int]:
        """The launcher and what it has started, as far as they have been seen alive."""
        children: Dict[int, List[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, ValueError, IndexError):
                    continue
                children.setdefault(parent, []).append(int(entry.name))
        waiting = [self.process.pid]
        while waiting:
            for child in children.get(waiting.pop(), []):
                self._family.add(child)
                waiting.append(child)
        return sorted(self._family)

    def wait_for(self, pattern: str, limit: float = 120) -> str:
        """Wait until the run has said something that matches; what it said."""
        deadline = time.monotonic() + limit
        while not re.search(pattern, self.said(), re.M):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"nothing like {pattern} was said:\n{self.said()}")
            time.sleep(0.01)
        self.family()
        return self.said()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """The whole job at once, as when the machine goes."""
        for pid in self.family():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def rank(self, rank: int) -> int:
        """Process id of a rank."""
        for pid in self.family():
            try:
                if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return pid
            except OSError:
                continue
        raise ProcessLookupError(f"rank {rank}")

    def end(self, limit: float = 240, since: Optional[float] = None) -> Ended:
        """Wait for the end of the job."""
        deadline = time.monotonic() + limit
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"not over after {limit:g} s:\n{self.said()}")
            self.family()
            time.sleep(0.02)
        seconds = time.monotonic() - (since or self.began)
        self._output.close()
        settled = time.monotonic() + 5
        orphans = [pid for pid in self._family if _alive(pid)]
        while (
            orphans and time.monotonic() < settled
        ):  # the kernel takes a moment for those that died with their launcher
            time.sleep(0.02)
            orphans = [pid for pid in orphans if _alive(pid)]
        return Ended(self.process.returncode, self.said(), seconds, orphans)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def curve(directory: Path) -> List[Dict[str, float]]:
    """What ``metrics.jsonl`` holds, without what depends on the clock."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    timed = {name for line in lines for name in line if "second" in name} | {"mfu", "goodput"}
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def checkpoints(directory: Path) -> List[str]:
    return [path.name for path in Store(directory / FOLDER).checkpoints()]


def newest(directory: Path) -> Optional[Path]:
    return Store(directory / FOLDER).newest_whole()[0]
