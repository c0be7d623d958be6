"""Figures of the main job on this machine: seconds from command to first step, throughput, loss.

    python benchmarks/quickstart.py [--steps 200] [flags of entry.py ...]

Runs the default job (embedded sample) three times and prints the median of each figure with the machine and date.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402  (the checkout is on the path now)


def one_run(steps: int, flags) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.time()
        result = subprocess.run(
            [
                sys.executable,
                str(ROOT / "entry.py"),
                "--plugins",
                "inter_first,bert,wiki_ofrecord",
                "--output_dir",
                str(run),
                "--train_steps",
                str(steps),
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            sys.exit(result.stdout)
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        first = float(re.search(r"first step ([\d.]+) s", result.stdout).group(1))
        rates = [entry["samples_per_second"] for entry in logged[1:]]
        return {
            "first step, s": first,
            "whole run, s": time.time() - started,
            "samples/s": statistics.median(rates),
            "first loss": logged[0]["loss"],
            "last loss": logged[-1]["loss"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options, flags = parser.parse_known_args()
    runs = [one_run(options.steps, flags) for _ in range(options.runs)]
    print(
        f"{machine()}; {time.strftime('%Y-%m-%d')}; median of {options.runs} runs of {options.steps} steps "
        f"{' '.join(flags)}"
    )
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        print(f"{name:14s} {statistics.median(values):8.2f}   ({values[0]:.2f} to {values[-1]:.2f})")


if __name__ == "__main__":
    main()
