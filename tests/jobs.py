"""Runs of ``entry.py`` as a user makes them, for the tests that need real ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

from pipeloom.core.base.variables import outside_environment

ROOT = Path(__file__).resolve().parent.parent
#: A model that trains in milliseconds: 1 head of 64, 1 layer.
TINY = ["--num_hidden_layers", "1", "--num_attention_heads", "1", "--train_global_batch_size", "16", "--log_every", "1"]
#: The model for runs to which it does not matter: half of what a run with TINY costs.
NO_LAYERS = str(Path(__file__).with_name("no_layers.py"))
ONE_PROCESS = ["--nnodes", "1", "--nproc_per_node", "1", "--nums_split", "1"]


def command(*flags: str, strategy: str = "inter_first", model: str = "bert", data: str = "wiki_ofrecord") -> List[str]:
    return [sys.executable, str(ROOT / "entry.py"), "--plugins", f"{strategy},{model},{data}", *map(str, flags)]


class Training:
    """A run of ``entry.py`` into ``directory``, under way.

    Most of a tiny run is the compilation of its graph, which takes one core: the run that it is compared with fits
    beside it.
    """

    def __init__(self, directory: Path, *flags: str, **plugins: str) -> None:
        """``plugins``: the ``strategy``, ``model`` and ``data`` of ``command``."""
        self.directory, self._output = directory, directory.with_name(f"{directory.name}.out")
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                command("--output_dir", directory, *flags, **plugins),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=directory.parent,
            )

    def curve(self, timeout: float = 240) -> List[Dict[str, float]]:
        """The objects of its ``metrics.jsonl``, once it has come to its end."""
        try:
            code = self._process.wait(timeout)
        finally:
            self._process.kill()
        assert code == 0, self.said()
        return metrics(self.directory)

    def said(self) -> str:
        return self._output.read_text()


def train(directory: Path, *flags: str, timeout: float = 240, **plugins: str) -> List[Dict[str, float]]:
    """Train into ``directory`` and return the objects of its ``metrics.jsonl``."""
    return Training(directory, *flags, **plugins).curve(timeout)


def metrics(directory: Path) -> List[Dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def environment(**extra: str) -> Dict[str, str]:
    """The environment of a command line: none of what a surrounding rank or launcher may have set."""
    return {**outside_environment(os.environ), **extra}


def largest_difference(curve: List[Dict[str, float]], other: List[Dict[str, float]], name: str = "loss") -> float:
    assert len(curve) == len(other) > 0
    return max(abs(a[name] - b[name]) for a, b in zip(curve, other))
