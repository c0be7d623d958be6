"""Where the pipeline lies: two nodes with a network between them, both strategies."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any, Dict, List

from benchmarks.experiments.bars import Bar, bar_picture
from benchmarks.experiments.lab import Lab, Layout, model, sample_ms, table, train
from benchmarks.lab.measure import bytes_per_step
from benchmarks.lab.namespaces import LabError, Link, why_not
from benchmarks.lab.theory import crossing, plan_of

PURPOSE = "Where the pipeline lies"
STRATEGIES, RATES = ("inter_first", "intra_first"), (1000, 300, 100)
DECODERS = {"tied": "--tie_embeddings true", "untied": "--tie_embeddings false"}
SAMPLES, MODEL = 16, model(4, 256, 4)
FLAGS = f"{MODEL} --nums_split 2 --train_global_batch_size {SAMPLES} --grad_acc_steps 4"
#: How far compute + bytes / rate may be from what is measured; by how much inter_first must win untied at 300 Mbit/s.
NEAR, WIN = 0.15, 3.0
_PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "data" / "published" / "seed_placements.csv"


def run(lab: Lab) -> Dict[str, Any]:
    reason = why_not(rate=True)
    if reason:
        raise LabError(f"no network between nodes here: {reason}")
    found: List[Dict[str, Any]] = []
    for decoder, flags in list(DECODERS.items())[1 if lab.quick else 0 :]:
        for strategy in STRATEGIES:
            plugins = f"{strategy},by_flops,bert,wiki_ofrecord,-tensorboard"
            given = f"{FLAGS} {flags}".split()
            planned = crossing(plan_of(given, plugins))
            with Link() as link:
                counted = bytes_per_step(link, given, plugins, pauses=(2, 5))
            row = {
                "decoder": decoder,
                "strategy": strategy,
                "planned_bytes": [planned.total(0, 1), planned.total(1, 0)],
                "counted_bytes": [counted.bytes_0_to_1, counted.bytes_1_to_0],
                "compute_s": _seconds(lab, plugins, flags, None),
                "step_s": {},
            }
            for rate in RATES[1:2] if lab.quick else RATES:
                row["step_s"][str(rate)] = _seconds(lab, plugins, flags, rate)
                lab.say(f"{decoder}, {strategy}, {rate} Mbit/s: {row['step_s'][str(rate)]:.2f} s a step")
            found.append(row)
    return {"rows": found, "published": _published()}


def _seconds(lab: Lab, plugins: str, decoder: str, rate: Any) -> float:
    """Return the median seconds of a step over a link of ``rate`` Mbit/s, ``None`` for one without a limit."""
    layout = Layout("", decoder, ranks=4, plugins=plugins)
    times = []
    for _ in range(1 if rate == min(RATES) or lab.quick else 2):
        with Link(rate=None if rate is None else f"{rate}mbit") as link:
            flags = f"{FLAGS} --train_steps {8 if rate == min(RATES) else 12} --log_every 2"
            times.append(sample_ms(train(lab, layout, flags, link)) * SAMPLES / 1e3)
    return statistics.median(times)


def predicted(row: Dict[str, Any], rate: float) -> float:
    """Return compute + bytes / rate in seconds; the two directions of the link are used at the same time."""
    return row["compute_s"] + max(row["planned_bytes"]) * 8 / (rate * 1e6)


def _published() -> List[Dict[str, Any]]:
    """Return the original project's table, ``[]`` where it is not beside the checkout."""
    if not _PUBLISHED.exists():
        return []
    with open(_PUBLISHED, newline="") as file:
        return list(csv.DictReader(file))


def ratio(rows: List[Dict[str, Any]], decoder: str, rate: str) -> float:
    """Return by how much inter_first is faster."""
    by = {row["strategy"]: row["step_s"][rate] for row in rows if row["decoder"] == decoder}
    return by["intra_first"] / by["inter_first"]


def render(data: Dict[str, Any]) -> str:
    rows, lines, shares = data["rows"], [], []
    for row in rows:
        for rate, seconds in row["step_s"].items():
            guess = predicted(row, float(rate))
            shares.append(seconds / guess - 1)
            compute = row["compute_s"]
            sent = f"{max(row['planned_bytes']) / 1e6:.1f} | {max(row['counted_bytes']) / 1e6:.1f}"
            lines.append(
                [row["decoder"], row["strategy"], rate, sent, f"{compute:.2f}", f"{guess:.2f}", f"{seconds:.2f}"]
            )
    head = [
        "decoder",
        "strategy",
        "Mbit/s",
        "MB planned",
        "MB counted",
        "compute, s",
        "compute + bytes / rate, s",
        "step, s",
    ]
    parts = [
        f"Two nodes (network namespaces) of two ranks each on one machine, a link of the given rate between them; two stages, two "
        f"data-parallel ranks, 4 micro-batches, {SAMPLES} samples a step; BERT `{MODEL}`. MB: in the fuller direction of the link and "
        f"a step, planned before the run and counted at the interface. Compute: the step over a link without a limit. Steps take "
        f"{min(shares):+.0%} to {max(shares):+.0%} of compute + bytes / rate (goal: within {NEAR:.0%}; less where hidden states travel while "
        f"stages compute).",
        table(head, lines, text=2),
    ]
    for rate in rows[0]["step_s"]:
        known = sorted({row["decoder"] for row in rows})
        parts.append(
            f"At {rate} Mbit/s inter_first is "
            + ", ".join(f"{ratio(rows, one, rate):.1f} x faster {one}" for one in known)
            + "."
        )
    if "300" in rows[0]["step_s"]:
        parts.append(f"(Goal: at least {WIN:g} x at 300 Mbit/s, untied.)")
    parts.append("![seconds a step](images/placement.svg)")
    if data["published"]:
        parts.append(_published_table(data["published"]))
    return "\n\n".join(parts)


def _published_table(published: List[Dict[str, Any]]) -> str:
    by: Dict[Any, Dict[str, float]] = {}
    for row in published:
        key = (row["nodes"], row["gpus_per_node"], row["layers"], row["hidden"])
        by.setdefault(key, {})[row["strategy"]] = float(row["step_s"])
    rows = [
        [
            f"{n} x {g}",
            f"{layers} / {hidden}",
            t["intra_first"],
            t["inter_first"],
            f"{t['intra_first'] / t['inter_first']:.2f}",
        ]
        for (n, g, layers, hidden), t in by.items()
    ]
    return "The original project, on Tesla M40 (seconds a step):\n\n" + table(
        ["nodes x GPUs", "layers / hidden", "intra_first", "inter_first", "x faster"], rows, text=2
    )


def pictures(data: Dict[str, Any]) -> Dict[str, str]:
    """Return the picture of the untied rows, by its name in docs/images."""
    bars = []
    for rate in data["rows"][-1]["step_s"]:
        for row in data["rows"]:
            if row["decoder"] == "untied":
                label = f"{rate} Mbit/s" if row["strategy"] == STRATEGIES[0] else ""
                waited = max(0.0, row["step_s"][rate] - row["compute_s"])
                bars.append(Bar(label, row["strategy"], [("compute", row["compute_s"]), ("network", waited)]))
    title = "Seconds a step of a small BERT on two nodes of two ranks, by where the pipeline lies"
    return {"placement.svg": bar_picture(title, bars, "s")}
