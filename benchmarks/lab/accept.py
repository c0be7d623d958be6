"""Training runs on GPUs, or on CPU ranks that stand for them, and what an acceptance check reads of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from pipeloom.core.base.variables import outside_environment

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "inter_first,bert,wiki_ofrecord,-tensorboard"


@dataclass(frozen=True)
class Run:
    """A training run: its flags, the devices that it takes, on ``cuda`` or ``cpu``; ``after`` which other one."""

    name: str
    flags: str = ""
    ranks: int = 1
    device: str = "cuda"
    #: It goes on from this run's checkpoint of step ``resumes[1]``, in run ``resumes[0]``.
    resumes: Optional[Sequence[Any]] = None
    #: The flags of its model, where that is another one than the others'; a dry run takes no notice of it.
    model: str = ""


@dataclass
class Done:
    """What a run left. ``seconds``: of the whole command; ``used_mb``: the most that its devices held, by device."""

    command: str
    code: int
    said: str
    lines: List[Dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    used_mb: Dict[str, float] = field(default_factory=dict)

    @property
    def losses(self) -> List[float]:
        return [line["loss"] for line in self.lines]

    @property
    def overflows(self) -> int:
        return len(re.findall(r"^overflow ", self.said, re.MULTILINE))

    @property
    def samples_per_second(self) -> float:
        """The median over logged steps, but for the first two."""
        rates = sorted(line["samples_per_second"] for line in self.lines[2:])
        return rates[len(rates) // 2] if rates else 0.0


class Runner:
    """Makes runs below ``folder``, each once. ``dry``: on CPUs, without what CPUs cannot."""

    def __init__(self, folder: Path, model: str, dry: bool, say: Callable[[str], None]) -> None:
        self.folder, self.model, self.dry, self._say = folder, model, dry, say
        self._done: Dict[Run, Done] = {}

    def command(self, run: Run) -> List[str]:
        """Return the command of a run as it is made."""
        directory = self.folder / run.name
        device = "cpu" if self.dry else run.device
        flags = on_cpus(run.flags) if device == "cpu" else run.flags
        where = [
            "--output_dir",
            str(directory),
            "--device",
            device,
            "--nnodes",
            "1",
            "--nproc_per_node",
            str(run.ranks),
        ]
        if run.resumes is not None:
            before, step = run.resumes
            source = self.folder / before / "checkpoints" / f"step_{step:07d}"
            return [sys.executable, str(ROOT / "entry.py"), "--resume", str(source), *flags.split(), *where]
        model = self.model if self.dry or not run.model else run.model
        given = ["--plugins", PLUGINS, *model.split(), *flags.split()]
        return [sys.executable, str(ROOT / "entry.py"), *given, *where]

    def __call__(self, run: Run) -> Done:
        """Make a run, unless it has been made, and return what it left."""
        if run not in self._done:
            command = self.command(run)
            self._say(f"$ {shlex.join(command)}")
            self._done[run] = self._make(run, command)
        return self._done[run]

    def _make(self, run: Run, command: List[str]) -> Done:
        began = time.monotonic()
        with GpuMemory(run.device == "cuda" and not self.dry) as memory:
            made = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=1800,
                env=outside_environment(os.environ),
            )
        metrics = self.folder / run.name / "metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
        lines = [line for line in lines if "samples_per_second" in line]
        return Done(
            shlex.join(command), made.returncode, made.stdout, lines, time.monotonic() - began, dict(memory.most)
        )


def on_cpus(flags: str) -> str:
    """Return flags without what CPUs cannot: half precision is float32 with the same loss scale, NCCL is left out."""
    words, kept = flags.split(), []
    for name, value in zip(words[::2], words[1::2]):
        if name.startswith("--nccl_") or name == "--fused_kernels":
            continue
        if (name, value) == ("--precision", "amp"):
            kept += [] if "--loss_scale" in words else ["--loss_scale", "dynamic"]
            continue
        kept += [name, value]
    return " ".join(kept)


class GpuMemory:
    """``with GpuMemory(True) as memory: ...``; ``memory.most``: megabytes (2^20 bytes) used at most, by device.

    All processes on the device count, so nothing else should run there.
    """

    def __init__(self, on: bool, every: float = 0.2) -> None:
        self.most: Dict[str, float] = {}
        self._on, self._every, self._end = on, every, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "GpuMemory":
        if self._on:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._on:
            self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._every):
            try:
                found = subprocess.run(
                    ["nvidia-smi", "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    timeout=10,
                ).stdout
            except (OSError, subprocess.TimeoutExpired):
                return
            self.take(found)

    def take(self, found: str) -> None:
        """Take one answer of ``nvidia-smi``: ``0, 1234``, a line for each device."""
        for index, used in re.findall(r"^(\d+), (\d+)", found, re.MULTILINE):
            self.most[index] = max(self.most.get(index, 0.0), float(used))
