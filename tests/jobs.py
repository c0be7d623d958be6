"""Runs of ``entry.py`` as a user makes them, for the tests that need real ranks."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

from pipeloom.core.processes import outside_environment

ROOT = Path(__file__).resolve().parent.parent
#: A model that trains in milliseconds: 1 head of 64, 2 layers.
TINY = ["--num_hidden_layers", "2", "--num_attention_heads", "1", "--train_global_batch_size", "16", "--log_every", "1"]
ONE_PROCESS = ["--nnodes", "1", "--nproc_per_node", "1", "--nums_split", "1"]


def command(*flags: str, strategy: str = "inter_first", data: str = "wiki_ofrecord") -> List[str]:
    return [sys.executable, str(ROOT / "entry.py"), "--plugins", f"{strategy},bert,{data}", *map(str, flags)]


def train(directory: Path, *flags: str, strategy: str = "inter_first", data: str = "wiki_ofrecord", timeout: float = 240) -> List[Dict[str, float]]:
    """Train into ``directory`` and return the objects of its ``metrics.jsonl``."""
    result = subprocess.run(command("--output_dir", directory, *flags, strategy=strategy, data=data), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=timeout, env=environment(), cwd=directory.parent)
    assert result.returncode == 0, result.stdout
    return metrics(directory)


def metrics(directory: Path) -> List[Dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def environment(**extra: str) -> Dict[str, str]:
    """The environment of a command line: none of what a surrounding rank or launcher may have set."""
    return {**outside_environment(os.environ), **extra}


def largest_difference(curve: List[Dict[str, float]], other: List[Dict[str, float]], name: str = "loss") -> float:
    assert len(curve) == len(other) > 0
    return max(abs(a[name] - b[name]) for a, b in zip(curve, other))
