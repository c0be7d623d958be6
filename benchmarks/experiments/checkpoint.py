"""What checkpoints cost."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from benchmarks.experiments.lab import PLUGINS, ROOT, Lab, model, table
from pipeloom.core.base.variables import outside_environment

PURPOSE = "Checkpoints"
SAMPLES, EVERY, STEPS = 16, 6, 24
MODEL = model(6, 384, 6)


def run(lab: Lab) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pipeloom-lab-") as temporary:
        folder = Path(temporary)
        found: Dict[str, Any] = {}
        for name, flags in {
            "none": "--save_every 0",
            "in the background": f"--save_every {EVERY} --async_save true",
            "training waits": f"--save_every {EVERY} --async_save false",
        }.items():
            found[name] = _train(lab, folder / name.replace(" ", "_"), flags)
            lab.say(f"{name}: {found[name]}")
        kept = folder / "training_waits" / "checkpoints" / "last"
        began = time.monotonic()
        subprocess.run(
            [sys.executable, str(ROOT / "entry.py"), "checkpoint", "verify", str(kept.resolve())],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        verified = time.monotonic() - began
        again = _train(lab, folder / "again", f"--save_every 0 --resume {kept.resolve()}")
    return {"runs": found, "verify_s": verified, "resumed_first_step_s": again["first_step_s"]}


def _train(lab: Lab, run_folder: Path, flags: str) -> Dict[str, Any]:
    command = [sys.executable, str(ROOT / "entry.py"), "--plugins", PLUGINS, *MODEL.split(), *flags.split()]
    command += "--nnodes 1 --nproc_per_node 1 --nums_split 1 --grad_acc_steps 1 --log_every 1 --device cpu".split()
    command += f"--train_global_batch_size {SAMPLES} --train_steps {STEPS + (2 if '--resume' in flags else 0)}".split()
    command += ["--output_dir", str(run_folder), "--save_final_weights", "false"]
    command += ["--ofrecord_path", lab.records] if lab.records else []
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=outside_environment(os.environ)
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout[-2000:])
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    steps = [SAMPLES / line["samples_per_second"] for line in lines if line["samples_per_second"]]
    saved = [
        (float(mb), float(s)) for mb, s in re.findall(r"^saved +\S+ \(([\d.]+) MB in ([\d.]+) s\)", done.stdout, re.M)
    ]
    first = re.search(r"first step ([\d.]+) s", done.stdout)
    return {
        "seconds": sum(steps),
        "step_s": statistics.median(steps),
        "saved": saved,
        "first_step_s": float(first.group(1)) if first else float("nan"),
    }


def render(data: Dict[str, Any]) -> str:
    without = data["runs"]["none"]
    rows: List[List[Any]] = []
    for name, found in data["runs"].items():
        saved = found["saved"]
        speed = f"{sum(mb for mb, _ in saved) / max(1e-9, sum(s for _, s in saved)):.0f}" if saved else ""
        lost = f"{(found['seconds'] - without['seconds']) / len(saved) * 1e3:.0f}" if saved else ""
        size = f"{saved[0][0]:.0f}" if saved else ""
        rows.append([name, len(saved), size, speed, f"{found['step_s'] * 1e3:.0f}", lost])
    return (
        f"BERT `{MODEL}` with AdamW's moments in one process, {SAMPLES} samples a step, one checkpoint every {EVERY} steps. Lost: what the "
        f"whole run takes longer for each checkpoint.\n\n"
        + table(["saving", "checkpoints", "MB each", "MB/s", "step, ms", "lost a checkpoint, ms"], rows)
        + f"\n\n`checkpoint verify` (sha256 of everything) takes {data['verify_s']:.1f} s; a resumed run has its first step "
        f"{data['resumed_first_step_s']:.1f} s after the start, a new one {without['first_step_s']:.1f} s. Larger ones: "
        f"[checkpoints.md](checkpoints.md)."
    )
