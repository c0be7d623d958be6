"""What experiments share: options, environments, and training runs whose steps are timed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from benchmarks.lab.job import TwoNodeJob
from benchmarks.lab.namespaces import Link
from pipeloom.core.base.variables import outside_environment

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "inter_first,by_flops,bert,wiki_ofrecord,-tensorboard"
#: What every run of a BERT has in the issue of speed: vocabulary, sequence, predictions, AdamW, clipping by 1.
BERT = "--seq_length 128 --vocab_size 30522 --max_predictions 20 --clip_grad_norm 1 --optimizer adamw"
QUIET = "--save_every 0 --save_final_weights false"


@dataclass
class Lab:
    """``folder``: of environments, kept; ``records``: to train on, ``None`` for the built-in ones."""

    quick: bool
    folder: Path
    records: Optional[str] = None
    say: Callable[[str], None] = print
    #: Of ``seed_table``, which says what they are.
    dry: bool = False
    all_positions: bool = False
    train: str = ""

    def environment(self, name: str, packages: Sequence[str], beside: bool) -> str:
        """Return the interpreter of an environment with ``packages``, made once; ``beside``: with all that is here."""
        home = self.folder / name
        python = home / "bin" / "python"
        if not (home / "ready").exists():
            self.say(f"making {home} with {', '.join(packages)} ...")
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
            if beside:
                places = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
                Path(places["purelib"], "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
            (home / "ready").touch()
        return str(python)


@dataclass(frozen=True)
class Layout:
    """A way to train: its flags, and on how many ranks of this machine."""

    name: str
    flags: str
    ranks: int = 1
    plugins: str = PLUGINS
    python: str = field(default=sys.executable, compare=False)


def model(layers: int, hidden: int, heads: int) -> str:
    """Return the flags of a BERT of this size."""
    return f"--num_hidden_layers {layers} --hidden_size {hidden} --num_attention_heads {heads} {BERT}"


def train(lab: Lab, layout: Layout, flags: str, link: Optional[Link] = None, limit: float = 400) -> Dict[str, Any]:
    """Train by ``layout`` and return its metrics (``lines``) and what it said; over ``link`` as two nodes.

    Raises ``CalledProcessError`` or ``LabError`` when the run fails.
    """
    given = ["--plugins", layout.plugins, *flags.split(), *layout.flags.split(), *QUIET.split(), "--device", "cpu"]
    if lab.records:
        given += ["--ofrecord_path", lab.records]
    with tempfile.TemporaryDirectory(prefix="pipeloom-lab-") as temporary:
        folder = Path(temporary)
        if link is not None:
            with TwoNodeJob(link, given, folder, nproc_per_node=layout.ranks // 2) as job:
                job.wait(limit)
                run, said = job.run(0), job.log(0).read_text(errors="replace")
                return _read(run, said)
        run = folder / "run"
        command = [layout.python, str(ROOT / "entry.py"), *given, "--output_dir", str(run)]
        if "--nnodes" not in given:
            command += ["--nnodes", "1", "--nproc_per_node", str(layout.ranks)]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            env=outside_environment(os.environ),
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout[-2000:])
        return _read(run, done.stdout)


def _read(run: Path, said: str) -> Dict[str, Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary = run / "profile" / "summary.json"
    trace = run / "profile" / "trace.json"
    return {
        "lines": lines,
        "said": said,
        "profile": json.loads(summary.read_text()) if summary.exists() else None,
        "trace": json.loads(trace.read_text()) if trace.exists() else None,
    }


def sample_ms(found: Dict[str, Any], skipped: int = 2) -> float:
    """Return the median milliseconds a sample of the intervals between logged steps, without the first ``skipped``."""
    return statistics.median(1000 / line["samples_per_second"] for line in found["lines"][skipped:])


def middle(values: Sequence[float]) -> Dict[str, float]:
    """Return the median of a figure's repetitions, the least and the most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def spread(figure: Dict[str, float], digits: int = 1) -> str:
    """Write a figure with its spread: ``44.7 (44.1 to 45.0)``."""
    return f"{figure['median']:.{digits}f} ({figure['least']:.{digits}f} to {figure['most']:.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], text: int = 1) -> str:
    """Write a table in Markdown whose first ``text`` columns are words."""
    line = "|" + "---|" * text + "---:|" * (len(head) - text)
    lines: List[str] = [f"| {' | '.join(head)} |", line]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
