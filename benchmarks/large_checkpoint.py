"""Saving and loading a model of 336 million parameters, per rank: python benchmarks/large_checkpoint.py [--write]

Trains a step in one process and saves in the background, goes on for a step and saves while training waits, and goes on
from the first checkpoint in two pipeline stages: 10 minutes, 22 GB of memory, 10 GB of disk. Ends with 1 when a rank
needs more memory than its own part, one tensor and, while saving, a file's worth.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import origin, page_parser  # noqa: E402  (the checkout is on the path now)
from pipeloom.core.base.variables import outside_environment  # noqa: E402
from pipeloom.core.checkpoint.manifest import verify  # noqa: E402
from pipeloom.core.checkpoint.store import FOLDER, name_of  # noqa: E402
from pipeloom.core.checkpoint.writing import FILE_BYTES  # noqa: E402

PAGE = ROOT / "docs" / "checkpoints.md"
PROBE = ROOT / "benchmarks" / "lab" / "checkpoint_probe.py"
ONE, TWO = "--nnodes 1 --nproc_per_node 1 --nums_split 1", "--nnodes 1 --nproc_per_node 2 --nums_split 2"
#: What a process takes beside: parts of a library that are loaded at its first use, and what malloc keeps.
SLACK = 48 << 20
#: Bytes of a parameter and AdamW's two moments of it; free disk that two checkpoints need.
STATE_BYTES, CHECKPOINTS = 12, 2


@dataclass
class Measured:
    """A run: what each rank noted (``checkpoint_probe.py``), and the bytes of the checkpoint that it saved."""

    name: str
    ranks: List[Dict[str, Any]]
    path: Path


def run(name: str, folder: Path, size: int, flags: Sequence[str], step: int) -> Measured:
    """Train until ``step`` with a checkpoint there. Raises ``RuntimeError`` with the output when that fails."""
    directory = folder / name.replace(" ", "-").replace(",", "")
    command = [
        sys.executable,
        str(ROOT / "entry.py"),
        "--plugins",
        f"inter_first,bert,wiki_ofrecord,{PROBE}",
        *flags,
        "--stop_at",
        str(step),
        "--output_dir",
        str(directory),
    ]
    env = {**outside_environment(os.environ), "PIPELOOM_LAB_FOLDER": str(folder)}
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode:
        raise RuntimeError(done.stdout)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    notes = [json.loads((folder / f"checkpoint_{rank}.json").read_text()) for rank in range(size)]
    return Measured(name, notes, directory / FOLDER / name_of(step))


def mb(size: float) -> str:
    return f"{size / 1e6:.0f}"


def check(problems: List[str], what: str, extra: int, allowed: int) -> None:
    if extra > allowed + SLACK:
        problems.append(
            f"{what}: {mb(extra)} MB beside its own part, it may be {mb(allowed)} MB and {mb(SLACK)} MB of slack"
        )


def saving_rows(measured: Measured, copies: bool, problems: List[str]) -> List[str]:
    """``copies``: the rank keeps a copy of its part meanwhile."""
    rows = []
    for rank, notes in enumerate(measured.ranks):
        phases, own = notes["phases"], sum(notes["own"].values())
        save, finish = phases["save"], phases.get("finish", phases["save"])
        extra = max(save["peak"], finish["peak"]) - save["before"]
        check(
            problems,
            f"saving, {measured.name}, rank {rank}",
            extra - (own if copies else 0),
            notes["largest"] + FILE_BYTES,
        )
        whole = save["seconds"] + (finish["seconds"] if finish is not save else 0)
        rows.append(
            f"| {measured.name} | {rank} | {mb(own)} | {save['seconds']:.1f} | {whole:.1f} | {mb(save['before'])} | "
            f"{mb(extra)} | "
            f"{mb(max(0, extra - own)) if copies else mb(extra)} |"
        )
        print(rows[-1], flush=True)
    return rows


def loading_rows(measured: Measured, problems: List[str]) -> List[str]:
    rows = []
    for rank, notes in enumerate(measured.ranks):
        for kind in ("parameters", "optimizer"):
            phase, own = notes["phases"][kind], notes["own"][kind]
            extra = phase["peak"] - phase["before"] - own
            check(problems, f"loading the {kind}, {measured.name}, rank {rank}", extra, notes["largest"])
            sizes = " | ".join(mb(phase[moment]) for moment in ("before", "after", "peak"))
            seconds = f"{phase['seconds']:.1f} | {phase['reading']:.1f}"
            rows.append(f"| {measured.name} | {rank} | {kind} | {mb(own)} | {seconds} | {sizes} | {mb(extra)} |")
            print(rows[-1], flush=True)
    return rows


def page(seconds: float, figures: Dict[str, Any]) -> str:
    lines = "\n".join
    return f"""# Checkpoints: time and memory of a large model

{origin("python benchmarks/large_checkpoint.py --write", seconds)}

BERT with {figures["layers"]} layers, {figures["heads"]} heads, vocabulary 30522: **{figures["parameters"] / 1e6:.0f} million parameters**.
With AdamW's two moments a checkpoint has {figures["bytes"] / 1e9:.2f} GB in {figures["files"]} files; the largest tensor, the table of
words, has {mb(figures["largest"])} MB. {figures["data"]}, batch 2 x 128 tokens. Memory is the kernel's own peak of the process (VmHWM, set
back before each phase), mapped pages of files included. MB are 10^6 bytes. Files are in the page cache while they are
read. Before ranks start, the launcher compares every byte with its sha256, once: {figures["verify"]:.1f} s.

Load average of the machine, which has {os.cpu_count()} cores: {figures["load"][0]:.1f} when this began, {figures["load"][1]:.1f} when it ended.
One or two of it is the measurement itself; other work makes the times longer than they are on an idle machine, and says nothing of the memory.

## Saving

*Held up* is how long training stands still, *whole* how long until the checkpoint counts; *own* is the rank's parameters and
optimizer state, *above* the peak over what the process had before, and *besides* what of that is more than a copy of *own*.
No step runs while it is written here; one would slow it down. On a rank other than 0, *whole* ends when all parts are written.

| | rank | own, MB | held up, s | whole, s | before, MB | above, MB | besides, MB |
|---|---:|---:|---:|---:|---:|---:|---:|
{lines(figures["saving"])}

With `--async_save true` (the default) a rank holds a copy of its own part while it is written, and lets go of it tensor by
tensor; with `--async_save false` training waits and there is no copy: one tensor, and what waits for its file to be full
({mb(FILE_BYTES)} MB). What a process has before is mostly the engine's buffers, which
share no memory on a CPU (docs/memory.md).

## Loading

*Reading* is the part of the time that went into files; *besides* is the peak over what the process had before and the bytes
that it loads and keeps.

| | rank | what | own, MB | seconds | reading, s | before, MB | after, MB | peak, MB | besides, MB |
|---|---:|---|---:|---:|---:|---:|---:|---:|---:|
{lines(figures["loading"])}

A rank reads the tensors of its own stage alone, one at a time, and has at most one of them twice. Layouts with tensor
parallelism or `--shard` were not measured here: there a rank reads a tensor whole and keeps its part. The script ends with 1 if
a rank needs more than its own part, one tensor, while saving what waits for its file, and {mb(SLACK)} MB of slack.

## The format

A checkpoint is a folder `checkpoints/step_NNNNNNN` of the run: `checkpoint.json` (position in the data, options, plugins,
metrics; sha256, size and tensors of each file, and a sha256 of itself) and safetensors files of at most
{mb(FILE_BYTES)} MB, unless one tensor is larger; and, where the dataset knows how its text became token ids, its tokenizer files, whole (docs/huggingface.md).
Tensors are float32, whole, and known by their parameter's name, the optimizer's as `optimizer/<kind>/<name>`
(`exp_avg`, `exp_avg_sq`), so any layout reads what another wrote. The folder gets its name when it is whole and on the disk;
the files `last` and `best` beside it name the newest and the one with the best evaluation.
"""


def main() -> int:
    parser = page_parser(__doc__, PAGE, records=True)
    parser.add_argument("--layers", type=int, default=24, help="fewer, for a quick try")
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the checkpoints lie meanwhile (10 GB)")
    arguments = parser.parse_args()
    data = ["--ofrecord_path", arguments.ofrecord_path] if arguments.ofrecord_path else ["--vocab_size", "30522"]
    common = [
        *data,
        "--num_hidden_layers",
        str(arguments.layers),
        "--num_attention_heads",
        str(arguments.heads),
        "--train_global_batch_size",
        "2",
        "--seq_length",
        "128",
        "--train_steps",
        "4",
        "--grad_acc_steps",
        "1",
        "--log_every",
        "1",
        "--save_final_weights",
        "false",
    ]
    needed = (
        CHECKPOINTS * STATE_BYTES * (arguments.layers * 12 * (64 * arguments.heads) ** 2 + 31000 * 64 * arguments.heads)
    )
    if shutil.disk_usage(arguments.folder).free < needed:
        sys.exit(f"large_checkpoint: {arguments.folder} needs {needed / 1e9:.0f} GB of free disk (--folder)")
    problems: List[str] = []
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="pipeloom-large-", dir=arguments.folder) as temporary:
        figures = measure(Path(temporary), common, problems)
    figures.update(
        layers=arguments.layers,
        heads=arguments.heads,
        load=(load, os.getloadavg()[0]),
        data="The public records" if arguments.ofrecord_path else "The embedded sample",
    )
    for problem in problems:
        print(f"large_checkpoint: {problem}", file=sys.stderr)
    if arguments.write:
        PAGE.write_text(page(time.monotonic() - began, figures), encoding="utf-8")
    return 1 if problems else 0


def measure(folder: Path, common: Sequence[str], problems: List[str]) -> Dict[str, Any]:
    """The figures of the page; what should not be goes to ``problems``."""
    first = run("one process, in the background", folder, 1, [*common, *ONE.split(), "--async_save", "true"], 1)
    saving = saving_rows(first, True, problems)
    started = time.monotonic()
    manifest = verify(first.path)
    checked = time.monotonic() - started
    resume = ["--resume", str(first.path)]
    again = run("one process, training waits", folder, 1, [*common, *ONE.split(), *resume, "--async_save", "false"], 2)
    saving += saving_rows(again, False, problems)
    again.name = "one process"
    loading = loading_rows(again, problems)
    shutil.rmtree(again.path)
    two = run("two stages, in the background", folder, 2, [*common, *TWO.split(), *resume, "--async_save", "true"], 2)
    saving += saving_rows(two, True, problems)
    two.name = "two stages"
    loading += loading_rows(two, problems)
    return {
        "parameters": manifest.model["size"],
        "bytes": manifest.size_bytes,
        "files": len(manifest.files),
        "verify": checked,
        "largest": first.ranks[0]["largest"],
        "saving": saving,
        "loading": loading,
    }


if __name__ == "__main__":
    raise SystemExit(main())
