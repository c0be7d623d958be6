"""How fast samples are read and prepared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List

from benchmarks.experiments.lab import ROOT, Lab, middle, spread, table
from pipeloom.core.base.variables import outside_environment
from pipeloom.core.data.batches import TrainingBatches

PURPOSE = "Reading and preparing data"
BATCH, SECONDS, GOAL = 32, 4.0, 20_000
_DUMP = ROOT.parent / "shared" / "data" / "wiki_dump" / "enwiki-sample-pages-articles.xml.bz2"
_WORDS = ROOT.parent / "shared" / "data" / "bert-base-uncased-vocab.txt"


def run(lab: Lab) -> Dict[str, Any]:
    reading = [_read(lab) for _ in range(1 if lab.quick else 5)]
    found: Dict[str, Any] = {"records_per_second": middle(reading), "batch": BATCH, "real": lab.records is not None}
    if _DUMP.exists():
        found["prepared_per_second"] = {str(workers): _prepare(workers) for workers in (1, 2)}
    return found


def _read(lab: Lab) -> float:
    """Return how many records a second one process reads, decodes and shuffles, all fields of BERT's pre-training."""
    from benchmarks.lab.theory import plan_of

    flags = ["--train_global_batch_size", str(BATCH), "--nums_split", "1", "--train_steps", "100000"]
    if lab.records:
        flags += ["--ofrecord_path", lab.records, "--vocab_size", "30522"]
    plan = plan_of(flags, "inter_first,bert,wiki_ofrecord", 1)
    batches = TrainingBatches(plan.dataset, plan.order(), (), plan.config.seed)
    names = list(plan.dataset.fields)
    batches.read(0, names, 0, 1)
    began, step = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        step += 1
        batches.read(step, names, 0, 1)
    return step * BATCH / (time.monotonic() - began)


def _prepare(workers: int) -> float:
    """Return samples a second of ``prepare pretraining`` on the sample of a dump, process start included."""
    with tempfile.TemporaryDirectory(prefix="pipeloom-lab-") as folder:
        command = [sys.executable, str(ROOT / "entry.py"), "prepare", "pretraining", "--input", str(_DUMP)]
        command += ["--vocab", str(_WORDS), "--output", f"{folder}/set", "--workers", str(workers)]
        began = time.monotonic()
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=outside_environment(os.environ),
        )
        seconds = time.monotonic() - began
        said = subprocess.run(
            [sys.executable, str(ROOT / "entry.py"), "prepare", "validate", f"{folder}/set"],
            stdout=subprocess.PIPE,
            text=True,
            env=outside_environment(os.environ),
        ).stdout
        count = re.search(r"([\d,]+) pre-training examples", said)
        if count is None:
            raise RuntimeError(f"no number of samples in: {said}")
        return float(count.group(1).replace(",", "")) / seconds


def render(data: Dict[str, Any]) -> str:
    kind = "real Wikipedia records" if data["real"] else "the built-in records"
    rows: List[List[Any]] = [
        [f"reader, {kind}, batches of {data['batch']}", spread(data["records_per_second"], 0), GOAL]
    ]
    for workers, speed in data.get("prepared_per_second", {}).items():
        rows.append(
            [f"`prepare pretraining` of a Wikipedia dump, {workers} worker{'s' * (workers != '1')}", f"{speed:.0f}", ""]
        )
    return (
        "Samples a second: one process that reads, decodes and shuffles all fields; and from a dump to records, the start of the "
        "process included ([prepare.md](prepare.md) has more).\n\n" + table(["", "samples a second", "goal"], rows)
    )
