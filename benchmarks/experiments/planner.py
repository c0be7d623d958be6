"""How near the planner comes on this machine: two nodes with a network between them, profiled, predicted, measured."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from benchmarks.experiments.lab import Lab, Layout, model, sample_ms, table, train
from benchmarks.lab.job import TwoNodeJob
from benchmarks.lab.namespaces import LabError, Link, why_not
from pipeloom.core.host.builtin import use_builtin
from pipeloom.plugins import TABLE
from pipeloom.plugins.commands.plan.planned import Planned

PURPOSE = "The planner on this machine"
RATES, SAMPLES = (1000, 300, 100), 16
MODEL = model(4, 256, 4)
_DATA = "bert,wiki_ofrecord,-tensorboard"
#: Layouts that are predicted and measured: strategy and partitioner, and flags.
LAYOUTS = (
    ("inter_first,by_flops", "--nums_split 2 --grad_acc_steps 2"),
    ("inter_first,by_flops", "--nums_split 2 --grad_acc_steps 4 --tied_transfer vectors"),
    ("inter_first,by_flops", "--nums_split 2 --grad_acc_steps 8 --tied_transfer vectors"),
    ("inter_first,by_flops", "--nums_split 2 --grad_acc_steps 4 --tied_transfer table"),
    ("inter_first,by_flops", "--nums_split 4 --grad_acc_steps 4 --tied_transfer vectors"),
    ("intra_first,by_flops", "--nums_split 2 --grad_acc_steps 4 --tied_transfer vectors"),
    ("data_parallel", "--grad_acc_steps 1"),
    ("data_parallel", "--grad_acc_steps 1 --shard vocabulary"),
    ("data_parallel", "--tensor_parallel 2 --grad_acc_steps 1"),
    ("inter_first,by_flops", "--nums_split 2 --tensor_parallel 2 --grad_acc_steps 2 --tied_transfer vectors"),
)
#: Those of a slow network that take ten seconds a step are measured at one rate less.
_SLOW = {"intra_first", "data_parallel"}
GOALS = {"mape": 0.15, "regret": 0.05}


def run(lab: Lab) -> Dict[str, Any]:
    reason = why_not(rate=True)
    if reason:
        raise LabError(f"no network between nodes here: {reason}")
    use_builtin(TABLE)
    rows: List[Dict[str, Any]] = []
    profiles, choices = {}, []
    for rate in RATES[1:2] if lab.quick else RATES:
        with tempfile.TemporaryDirectory(prefix="pipeloom-planner-") as folder:
            cluster, said = profiled(rate, Path(folder))
            profiles[str(rate)] = said
            lab.say(f"{rate} Mbit/s: {said[-1]}")
            here: List[Dict[str, Any]] = []
            for plugins, flags in LAYOUTS[:4] if lab.quick else LAYOUTS:
                if rate == min(RATES) and plugins.partition(",")[0] in _SLOW and "vocabulary" not in flags:
                    continue
                here.append(_row(lab, rate, plugins, flags, cluster))
                row = here[-1]
                lab.say(
                    f"{rate} Mbit/s, {row['layout']}: {row['predicted']:.3f} predicted, {row['measured']:.3f} measured"
                )
            chosen = _chosen(lab, rate, cluster)
            lab.say(f"{rate} Mbit/s, auto: {chosen['measured']:.3f} s; {chosen['layout']}")
            rows += here
            choices.append({**chosen, "best_measured": min(row["measured"] for row in here)})
    return {"rows": rows, "choices": choices, "profiles": profiles}


def profiled(rate: int, folder: Path) -> Any:
    """Return the cluster.yaml that ``profile`` writes over a link, and what it said."""
    with Link(rate=f"{rate}mbit") as link:
        flags = [*MODEL.split(), "--train_global_batch_size", str(SAMPLES), "--device", "cpu", "--rows", "6"]
        with TwoNodeJob(link, flags, folder, command="profile") as job:
            job.wait(900)
            return str(job.run(0)), [line.strip() for line in job.log(0).read_text().splitlines() if line.strip()]


def _row(lab: Lab, rate: int, plugins: str, flags: str, cluster: str) -> Dict[str, Any]:
    given = f"{MODEL} {flags} --train_global_batch_size {SAMPLES}"
    predicted = Planned.of(["--plugins", f"{plugins},{_DATA}", *given.split(), "--cluster", cluster]).worth.seconds
    return {
        "rate": rate,
        "layout": f"{plugins.partition(',')[0]} {flags}",
        "predicted": predicted,
        "measured": _measured(lab, rate, f"{plugins},{_DATA}", given),
    }


def _chosen(lab: Lab, rate: int, cluster: str) -> Dict[str, Any]:
    """Return what ``auto`` chooses, and how long a step of it takes."""
    given = f"{MODEL} --train_global_batch_size {SAMPLES} --cluster {cluster}"
    planned = Planned.of(["--plugins", f"auto,{_DATA}", *given.split()])
    return {
        "rate": rate,
        "layout": planned.plan.reasons[0].partition(":")[0].replace("auto", "", 1).strip(),
        "predicted": planned.worth.seconds,
        "measured": _measured(lab, rate, f"auto,{_DATA}", given),
    }


def _measured(lab: Lab, rate: int, plugins: str, given: str) -> float:
    with Link(rate=f"{rate}mbit") as link:
        layout = Layout("", "", ranks=4, plugins=plugins)
        found = train(lab, layout, f"{given} --train_steps 7 --log_every 1", link)
    return sample_ms(found, skipped=2) * SAMPLES / 1e3


def figures(data: Dict[str, Any]) -> Dict[str, float]:
    """Return MAPE, the regret of choosing among the measured layouts, and how far ``auto`` is from their best."""
    rows = data["rows"]
    regrets = []
    for rate in sorted({row["rate"] for row in rows}):
        here = [row for row in rows if row["rate"] == rate]
        chosen = min(here, key=lambda row: row["predicted"])
        regrets.append(chosen["measured"] / min(row["measured"] for row in here) - 1)
    behind = [choice["measured"] / choice["best_measured"] - 1 for choice in data["choices"]]
    return {
        "mape": statistics.mean(abs(row["predicted"] / row["measured"] - 1) for row in rows),
        "regret": max(regrets),
        "auto": max(behind),
    }


def render(data: Dict[str, Any]) -> str:
    found = figures(data)
    rows = [
        [row["layout"], row["rate"], f"{row['predicted']:.3f}", f"{row['measured']:.3f}",
         f"{row['predicted'] / row['measured'] - 1:+.0%}"]
        for row in data["rows"]
    ]  # fmt: skip
    auto = [
        [choice["layout"], choice["rate"], f"{choice['predicted']:.3f}", f"{choice['measured']:.3f}",
         f"{choice['best_measured']:.3f}"]
        for choice in data["choices"]
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"Two nodes (network namespaces) of two ranks on one machine, a link of the given rate between them. `profile` measures "
            f"that cluster; then each layout is predicted with its cluster.yaml and run. BERT `{MODEL}`, {SAMPLES} samples a step. "
            f"MAPE {found['mape']:.1%} over {len(data['rows'])} layouts (goal {GOALS['mape']:.0%}); the layout that is predicted to be "
            f"the quickest is at most {found['regret']:.1%} slower than the quickest measured (goal {GOALS['regret']:.0%}); what "
            f"`auto` chooses is at most {found['auto']:+.1%} from that.",
            *([data["note"]] if data.get("note") else []),
            table(["layout", "Mbit/s", "predicted, s", "measured, s", "off"], rows),
            "What `auto` chose:",
            table(["layout", "Mbit/s", "predicted, s", "measured, s", "best of the others, s"], auto),
        ]
    )
