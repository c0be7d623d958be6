"""How near a pipeline comes to the least that its stages' own times allow."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from benchmarks.experiments.gantt import Row, gantt_picture
from benchmarks.experiments.lab import Lab, Layout, model, table, train
from benchmarks.lab.namespaces import Link, why_not
from pipeloom.core.planning.simulation import AFTER, PipelineWork, Timeline, simulate

PURPOSE = "A pipeline beside its bound"
MICRO_BATCH, GOAL, RATE = 4, 0.95, 300
FORMS = {
    "tied, vectors": "--tied_transfer vectors",
    "tied, table": "--tied_transfer table",
    "untied": "--tie_embeddings false",
}
#: (stages, micro-batches, forms, over the link)
CASES = [
    (2, 4, list(FORMS), False),
    (2, 8, list(FORMS), False),
    (2, 4, ["tied, vectors", "untied"], True),
    (2, 8, ["tied, vectors", "untied"], True),
    (4, 4, ["tied, vectors", "untied"], False),
    (4, 8, ["tied, vectors", "untied"], False),
]
_CPU = Path("/sys/fs/cgroup/cpu")


def run(lab: Lab) -> Dict[str, Any]:
    found, reasons = [], []
    for stages, micro_batches, forms, linked in CASES[:1] if lab.quick else CASES:
        why = why_not(rate=True) if linked else why_no_shares() if stages > (os.cpu_count() or 1) else None
        if why:
            reasons.append(f"{stages} stages{', over the link' if linked else ''}: {why}")
            continue
        for form in forms:
            row = _measure(lab, stages, micro_batches, form, linked)
            lab.say(
                f"{stages} stages, {micro_batches} micro-batches, {form}, {row['link']}: {row['share']:.3f} of the bound"
            )
            found.append(row)
    return {"rows": found, "left_out": reasons}


def _measure(lab: Lab, stages: int, micro_batches: int, form: str, linked: bool) -> Dict[str, Any]:
    layers = 4 if stages == 2 else 6
    flags = (
        f"{model(layers, 256, 4)} --nums_split {stages} --grad_acc_steps {micro_batches} --train_steps 16 --log_every 16 "
        f"--train_global_batch_size {MICRO_BATCH * micro_batches} --profile 6-15"
    )
    layout = Layout(form, FORMS[form], stages)
    if linked:
        with Link(rate=f"{RATE}mbit") as link:
            summary = train(lab, layout, flags, link)["profile"]
    else:
        with equal_shares(stages):
            summary = train(lab, layout, flags)["profile"]
    return {
        "stages": stages,
        "micro_batches": micro_batches,
        "form": form,
        "link": f"{RATE} Mbit/s" if linked else "local",
        "step_ms": summary["step_ms"],
        "bound_ms": simulate(work_of(summary)).length,
        "share": simulate(work_of(summary)).length / summary["step_ms"],
        "ranks": [
            {key: rank[key] for key in ("stage", "work", "waiting", "order", "micro_batches")}
            for rank in summary["ranks"]
        ],
        "transfers": summary["transfers"],
    }


def work_of(summary: Dict[str, Any]) -> PipelineWork:
    """Return what the stages did in a recorded step, in milliseconds, without any waiting.

    A hop is the shortest time between a stage's end of something and the other's begin with it.
    """
    ranks = sorted(summary["ranks"], key=lambda rank: rank["stage"])
    hops = []
    for stage in range(len(ranks) - 1):
        both = ({stage, stage + 1} == {way["from"], way["to"]} for way in summary["transfers"])
        ways = [
            way["least_ms"] for way, here in zip(summary["transfers"], both) if here and way["least_ms"] is not None
        ]
        hops.append(max(0.0, min(ways)) if ways else 0.0)
    return PipelineWork(
        [[one["busy"] for one in rank["micro_batches"]["forward"]] for rank in ranks],
        [[one["busy"] for one in rank["micro_batches"]["backward"]] for rank in ranks],
        hops,
        after=[rank["work"]["update"] + rank["work"]["all_reduce"] for rank in ranks],
    )


def why_no_shares() -> Optional[str]:
    """Return why ranks cannot be given shares of the cores here, ``None`` where they can."""
    if not (_CPU / "cpu.cfs_quota_us").exists():
        return "more stages than cores need control groups (version 1) of processor time"
    return None if os.access(_CPU, os.W_OK) else "control groups of processor time need root"


@contextmanager
def equal_shares(ranks: int) -> Iterator[None]:
    """Give each rank that is started in here its own share of the cores, so that stages do not slow each other down."""
    cores = os.cpu_count() or 1
    if ranks <= cores:
        yield
        return
    groups, ended = [_CPU / f"pipeloom-lab-{number}" for number in range(ranks)], threading.Event()
    for group in groups:
        group.mkdir(exist_ok=True)
        (group / "cpu.cfs_period_us").write_text("10000")
        (group / "cpu.cfs_quota_us").write_text(str(int(10000 * cores / ranks)))

    def assign() -> None:
        while not ended.is_set():
            for process, rank in _ranks().items():
                try:
                    (groups[rank] / "cgroup.procs").write_text(str(process))
                except OSError:
                    pass  # it has ended
            time.sleep(0.5)

    thread = threading.Thread(target=assign, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for group in groups:
            for _ in range(50):
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


def _ranks() -> Dict[int, int]:
    """Return the ranks that run on this machine: process -> rank, by the engine's variable."""
    found = {}
    for process in subprocess.run(
        ["pgrep", "-f", "pipeloom|entry.py"], stdout=subprocess.PIPE, text=True
    ).stdout.split():
        try:
            environment = Path("/proc", process, "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        rank = re.search(r"(?:^|\0)RANK=(\d+)", environment)
        if rank:
            found[int(process)] = int(rank.group(1))
    return found


def _idle(rank: Dict[str, Any], step_ms: float) -> str:
    waits = {name: value for name, value in rank["waiting"].items() if value >= 0.01 * step_ms}
    return f"stage {rank['stage']}: " + (", ".join(f"{name} {value:.0f}" for name, value in waits.items()) or "none")


def render(data: Dict[str, Any]) -> str:
    rows = []
    for row in data["rows"]:
        idle = "; ".join(_idle(rank, row["step_ms"]) for rank in row["ranks"])
        rows.append(
            [
                row["stages"],
                row["micro_batches"],
                row["form"],
                row["link"],
                idle,
                f"{row['bound_ms']:.0f}",
                f"{row['step_ms']:.0f}",
                f"{row['share']:.3f}",
            ]
        )
    parts = [
        f"Micro-batches of {MICRO_BATCH} samples, stages by FLOPs; 4 layers of hidden 256 in two stages, 6 in four (each with an equal share of "
        f"the cores by a control group). The bound is the step simulated (`core/planning/simulation.py`) from what each stage did with each "
        f"micro-batch, its update, and the shortest times on the way, all from `--profile`; the goal is {GOAL} of it. Idle: milliseconds a "
        f"step of 1 % or more, before the first work (start), until the first backward pass (fill), between passes, while the pipeline "
        f"empties (drain), and for the norm of all stages and the update.",
        table(
            ["stages", "micro-batches", "decoder", "link", "idle", "bound, ms", "step, ms", "of the bound"],
            rows,
            text=5,
        ),
        *(f"Left out: {reason}." for reason in data["left_out"]),
    ]
    if data["rows"]:
        parts.append("The first row, measured and simulated:\n\n![timeline](images/pipeline.svg)")
    return "\n\n".join(parts)


def pictures(data: Dict[str, Any]) -> Dict[str, str]:
    """Return the picture of the first row, measured and simulated, by its name in docs/images."""
    row, rows = data["rows"][0], []
    for rank in row["ranks"]:
        spans = [
            (what, f"{what[0].upper()}{number}", one["begin"], one["end"])
            for what in ("forward", "backward")
            for number, one in enumerate(rank["micro_batches"][what])
        ]
        rows.append(Row(f"stage {rank['stage']}, measured", spans))
    timeline: Timeline = simulate(work_of(row))
    for stage in range(timeline.stages):
        spans = [
            (span.what, "" if span.what == AFTER else f"{span.what[0].upper()}{span.micro_batch}", span.begin, span.end)
            for span in timeline.spans
            if span.stage == stage
        ]
        rows.append(Row(f"stage {stage}, simulated", spans))
    title = f"{row['stages']} stages, {row['micro_batches']} micro-batches, {row['form']}: milliseconds of a step"
    return {"pipeline.svg": gantt_picture(title, rows, row["step_ms"])}
