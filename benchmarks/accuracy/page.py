"""docs/planner-accuracy.md: written from the published tables, and from what was measured on a machine like this."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from accuracy.judging import Judged, judge
from accuracy.memory import read_memory, summary
from accuracy.rows import named, read_rows
from accuracy.scale import grow
from accuracy.seed import BATCHES, fit_rate, predict, read_pairs, sensitivity

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "planner-accuracy.md"
#: Table, what it is called, rows to fit on, goals: MAPE, Spearman, regret.
_TABLES = (
    ("vtrain_single_node_half.csv", "vTrain, Megatron-DeepSpeed on A100", 10, 0.10, 0.95, 0.05),
    ("libai_bert.csv", "LiBai and Megatron-LM, BERT on V100", 6, 0.10, None, None),
    ("oneflow_dlperf_gpt.csv", "OneFlow's DLPerf, GPT on V100", 6, 0.10, None, None),
    ("amp_t4_half.csv", "AMP, GPT-2 on T4 and 50 Gbit/s", 6, 0.15, 0.95, 0.05),
    ("bigscience_1b3_v100.csv", "BigScience, GPT of 1.3 G on V100", 6, 0.12, None, None),
)


def write_page(folder: str) -> int:
    """Write the page from the tables in ``folder``; returns the exit code."""
    parts = [
        "# How near the planner comes",
        "Written by `python benchmarks/planner_accuracy.py --page` on "
        f"{datetime.date.today().isoformat()} from published step times (a folder given by `--data`). One table by itself: "
        "`python benchmarks/planner_accuracy.py FILE.csv --fit N [--json]`.",
        "The constants of a cluster (efficiency of products, least time of a layer, traffic of memory, shares of the "
        "networks' bandwidths, overlap; `core/planning/cost/hardware.py`) are fitted on a few rows of each table and the "
        "figures are of the others. The rows are chosen by rule: one after the other those that narrow the constants "
        "most (D-optimal; `core/planning/cost/fit.py`), without a look at any measured time. Devices and networks are "
        "those of data sheets (`benchmarks/accuracy/clusters.py`); LiBai's page names no GPU: V100 is assumed.",
        *_published(folder),
        *_order_of_bigscience(folder),
        *_seed(folder),
        *_memory(folder),
        *_here(),
        *_growth(),
    ]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def _published(folder: str) -> List[str]:
    rows, details = [], []
    for name, title, count, *goals in _TABLES:
        judged = judge(read_rows(named(folder, name))[0], count)
        figures = judged.figures()
        rows.append(
            [title, str(count), str(figures["rows"]), f"{figures['mape']:.1%}", _goal(goals[0]),
             f"{figures['spearman']:.3f}", _goal(goals[1], ""), f"{figures['regret']:.1%}",
             f"{figures['largest_regret']:.1%}", _goal(goals[2])]
        )  # fmt: skip
        details += [f"**{title}**, fitted on: {_list_rows(judged)}.", _constants(judged)]
    heads = ["table", "fitted on", "rows left", "MAPE", "goal", "Spearman", "goal", "mean regret", "largest", "goal"]
    return [
        "## Published step times",
        _table(heads, rows),
        "Regret: by how much the layout that the planner would take for a job (same model, batch and devices) is slower "
        "than the best measured one. The goals are the most (MAPE, regret) or the least (Spearman) that was wanted. "
        "Equal measured times (BigScience rounds to seconds) lower Spearman's figure.",
        *details,
    ]


def _order_of_bigscience(folder: str) -> List[str]:
    judged = judge(read_rows(named(folder, "bigscience_1b3_v100.csv"))[0], 6)
    chosen: Dict[str, List[Any]] = {}
    for row, predicted in zip(judged.rows, judged.predicted):
        said = row.said
        if said["micro_batch"] == "1" and said["recompute"] == "full":
            key = f"tensor {said['tensor']} x pipeline {said['pipeline']}"
            chosen.setdefault(key, [row.seconds, predicted])
    rows = [[key, f"{one[0]:g}", f"{one[1]:.1f}"] for key, one in sorted(chosen.items(), key=lambda entry: entry[1][0])]
    measured, predicted = ([one[column] for one in chosen.values()] for column in (0, 1))
    order = all(
        (a - b) * (c - d) >= 0 for a, c in zip(measured, predicted) for b, d in zip(measured, predicted) if a != b
    )
    return [
        "BigScience's order of layouts, micro-batch 1 with full recomputation, seconds a step "
        f"({'right' if order else 'not right'}):",
        _table(["layout", "measured", "predicted"], rows),
    ]


def _seed(folder: str) -> List[str]:
    pairs = read_pairs(named(folder, "seed_placements.csv"))
    rate = fit_rate(pairs)
    rows = []
    for pair in pairs:
        intra, inter = predict(pair, rate, BATCHES[pair.nodes])
        rows.append(
            [f"{pair.nodes} x {pair.devices}", f"{pair.layers} / {pair.hidden}", str(BATCHES[pair.nodes]),
             f"{pair.intra:g} / {pair.inter:g}", f"{intra:.2f} / {inter:.2f}", f"{pair.ratio:.2f}",
             f"{intra / inter:.2f}", f"{intra / inter / pair.ratio - 1:+.0%}"]
        )  # fmt: skip
    table = sensitivity(pairs, rate)
    others = [
        [str(row["batch"]), str(row["micro_batches"]), str(row["masked"] or "all"),
         *(f"{ratio:.2f}" for ratio in row["ratios"])]
        for row in table
    ]  # fmt: skip
    right = all(ratio > 1 for row in table for ratio in row["ratios"])
    sizes = [f"{pair.nodes} x {pair.devices}" for pair in pairs]
    return [
        "## The original project's six rows, with one constant",
        "Tesla M40; batch 32 on 2 x 2 and 24 on 3 x 3 by its scripts (24 assumed on 4 x 4), accumulation 1, the decoder "
        "over all positions, untied. The one constant is the bandwidth between nodes, fitted to the three ratios: "
        f"{rate / 1e9:.2f} GB/s. Absolute times hang on batches that nobody wrote down.",
        _table(
            [
                "nodes x GPUs",
                "layers / hidden",
                "batch",
                "intra / inter, s",
                "predicted, s",
                "ratio",
                "predicted",
                "off",
            ],
            rows,
        ),
        "Ratios by other batches, accumulations and decoders, with the same constant "
        f"(inter_first is {'the quicker in every one' if right else 'not the quicker everywhere'}):",
        _table(["batch", "accumulation", "positions decoded", *sizes], others),
    ]


def _memory(folder: str) -> List[str]:
    rows = []
    tables = (("seed_memory_per_rank.csv", "the original project's runs, each rank", "10%"),
              ("oneflow_dlperf_gpt.csv", "OneFlow's DLPerf, the fullest rank", "15%"))  # fmt: skip
    for name, title, goal in tables:
        found, notes = read_memory(named(folder, name))
        figures = summary(found)
        rows.append([title, str(figures["rows"]), f"{figures['mean']:.1%}", f"{figures['largest']:.1%}", goal,
                     "; ".join(notes)])  # fmt: skip
    return [
        "## Memory of ranks on GPUs",
        "What `plugins/executors/oneflow/gpu_memory.py` predicts beside what earlier versions of the engine planned "
        "(`python benchmarks/memory_accuracy.py FILE.csv` lists every rank). Its constants are fitted to these tables.",
        _table(["table", "ranks", "off on average", "at the most", "goal", "left out"], rows),
        "The first of two stages takes twice as much as the last though they are balanced: the engine's buffers let it keep "
        "four micro-batches, the last stage one.",
    ]


def _here() -> List[str]:
    newest = max((ROOT / "benchmarks" / "results").glob("*-planner.json"), default=None)
    if newest is None:
        return []
    from benchmarks.experiments.planner import render

    content = json.loads(newest.read_text(encoding="utf-8"))
    where = f"`{content['command']}`, {content['date']}, commit {content['commit']}, {content['machine']}."
    return ["## A machine like this one", where, render(content["data"])]


def _growth() -> List[str]:
    rows = []
    for row in grow():
        step = [f"{row['step']:.3g}", f"{row['mfu']:.1%}", row["layout"]] if "step" in row else ["", "", "none fits"]
        rows.append([f"{row['devices']:,}", str(row["candidates"]), f"{row['seconds']:.2f}", *step])
    return [
        "## Large clusters",
        "GPT of 39 G parameters, 2 samples a step for each device, nodes of eight H100 with 3.2 Tbit/s between them, usual "
        "constants, half of the exchange of gradients hidden; layouts that fit into 80 GB. Seconds of the search are this machine's.",
        _table(["devices", "layouts", "search, s", "step, s", "MFU", "layout"], rows),
    ]


def _list_rows(judged: Judged) -> str:
    return "; ".join(judged.rows[number].name() for number in judged.fitted_on)


def _constants(judged: Judged) -> str:
    return " ".join(
        f"{system}: " + ", ".join(f"{name} {value:.3g}" for name, value in constants.items()) + "."
        for system, constants in judged.constants.items()
    )


def _goal(value: Optional[float], unit: str = "%") -> str:
    return "" if value is None else f"{value:.0%}" if unit else f"{value:g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
