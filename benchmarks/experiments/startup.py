"""From the command to the first step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Tuple

from benchmarks.experiments.lab import ROOT, Lab, middle, spread, table
from pipeloom.core.base.variables import outside_environment

PURPOSE = "From the command to the first step"
#: What is started -> its flags; the first is what ./run_ppl.sh runs, with goals in seconds from the issue.
JOBS = {
    "the embedded job, 4 ranks": ("", 10.0),
    "the same with 12 layers": ("--num_hidden_layers 12", 20.0),
    "one process": ("--nnodes 1 --nproc_per_node 1 --nums_split 1", None),
}
#: The time until a line of this kind is said, by what is then done.
_MARKS = {"plan": r"^batch ", "first step": r"^first step "}


def run(lab: Lab) -> Dict[str, Any]:
    found: Dict[str, Dict[str, List[float]]] = {}
    for _ in range(1 if lab.quick else 3):
        for name, (flags, _) in JOBS.items():
            for mark, seconds in _start(flags).items():
                found.setdefault(name, {}).setdefault(mark, []).append(seconds)
            lab.say(f"{name}: {found[name]}")
    lines = {
        name: [_command(*arguments) for _ in range(1 if lab.quick else 3)]
        for name, arguments in {"--help": ("--help",), "plugins": ("plugins",)}.items()
    }
    return {
        "jobs": {name: {mark: middle(values) for mark, values in marks.items()} for name, marks in found.items()},
        "commands": {name: middle(values) for name, values in lines.items()},
    }


def _start(flags: str) -> Dict[str, float]:
    """Return seconds from the command to each mark."""
    with tempfile.TemporaryDirectory(prefix="pipeloom-lab-") as folder:
        command = [
            sys.executable,
            str(ROOT / "entry.py"),
            "--plugins",
            "inter_first,bert,wiki_ofrecord",
            "--device",
            "cpu",
        ]
        command += [*flags.split(), "--train_steps", "1", "--save_every", "0", "--output_dir", f"{folder}/run"]
        began, found = time.monotonic(), {}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=outside_environment(os.environ)
        ) as process:
            for line in process.stdout or ():
                for mark, pattern in _MARKS.items():
                    if re.search(pattern, line):
                        found.setdefault(mark, time.monotonic() - began)
        if process.returncode or len(found) < len(_MARKS):
            raise subprocess.CalledProcessError(process.returncode, command)
        return found


def _command(*arguments: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "entry.py"), *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def render(data: Dict[str, Any]) -> str:
    rows: List[Tuple[str, ...]] = []
    for name, marks in data["jobs"].items():
        goal = JOBS[name][1]
        rows.append((name, spread(marks["plan"]), spread(marks["first step"]), "" if goal is None else f"{goal:.0f}"))
    said = ", ".join(f"`{name}` {spread(figure, 2)} s" for name, figure in data["commands"].items())
    return (
        "Seconds from the command until the plan is said, and until the first step is done (which compiles the graph); median of "
        f"the starts (least to most). Commands without the engine: {said}.\n\n"
        + table(["", "plan", "first step", "goal"], rows)
    )
