"""The original project's table of six configurations, run again on the GPUs that there are.

    python benchmarks/run.py seed_table [--dry] [--all_positions] [--train "--node_rank 0 --master_addr 10.0.0.1"]

Its README says of each how many nodes and GPUs, and the seconds of a step; of the batch nothing. Its launch scripts say
32 on 2 x 2 and 24 on 3 x 3, accumulation 1; for 4 x 4 nothing is known, and 32 is taken. On one machine the nodes are
logical; on several the same command is given on each, with its number. What takes more GPUs than there are is said and
not run. ``--dry`` says the commands alone, with ``--quick`` it also makes those of 2 x 2 on CPU ranks, tiny.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from benchmarks.experiments.lab import ROOT, Lab, table
from pipeloom.core.base.devices import find_gpus
from pipeloom.core.base.variables import outside_environment

PURPOSE = "The original project's table, on these GPUs"
#: Seconds of a step there: Tesla M40, OneFlow 0.6, float32, the decoder untied and over all positions.
DECODER = "--tie_embeddings false"


class Row(NamedTuple):
    """A configuration of the original's table: as many GPUs on each of ``nodes``, as many stages."""

    nodes: int
    layers: int
    heads: int
    hidden: int
    batch: int
    strategy: str
    published_s: float

    @property
    def name(self) -> str:
        return f"{self.nodes}x{self.nodes}_{self.strategy}"

    @property
    def gpus(self) -> int:
        return self.nodes**2


ROWS = (
    Row(2, 24, 16, 1024, 32, "intra_first", 1.2),
    Row(2, 24, 16, 1024, 32, "inter_first", 0.8),
    Row(3, 24, 32, 2048, 24, "intra_first", 5.25),
    Row(3, 24, 32, 2048, 24, "inter_first", 2.84),
    Row(4, 48, 32, 2048, 32, "intra_first", 10.96),
    Row(4, 48, 32, 2048, 32, "inter_first", 5.23),
)
SEQUENCE, STEPS, SKIPPED = 128, 15, 5
_TINY = "--num_hidden_layers 2 --num_attention_heads 2 --hidden_size 64 --train_global_batch_size 8"


def command(row: Row, folder: str, lab: Lab, tiny: bool = False) -> List[str]:
    """Return the command of a row, or of a tiny one on CPU ranks."""
    size = (
        f"--num_hidden_layers {row.layers} --num_attention_heads {row.heads} --hidden_size {row.hidden} "
        f"--intermediate_size {4 * row.hidden} --vocab_size 30522 --train_global_batch_size {row.batch}"
    )
    predictions = SEQUENCE if lab.all_positions else 20
    flags = (
        f"{_TINY if tiny else size} --seq_length {SEQUENCE} --max_predictions {predictions} {DECODER} "
        f"--grad_acc_steps 1 --nums_split {row.nodes} --nnodes {row.nodes} --nproc_per_node {row.nodes} "
        f"--device {'cpu' if tiny else 'cuda'} --precision fp32 --train_steps {STEPS} --log_every 1 --save_every 0"
    )
    plugins = f"{row.strategy},bert,wiki_ofrecord,-tensorboard"
    given = [*flags.split(), *lab.train.split()]
    if lab.records:
        given += ["--ofrecord_path", lab.records]
    return [
        sys.executable,
        str(ROOT / "entry.py"),
        "--plugins",
        plugins,
        *given,
        "--output_dir",
        f"{folder}/{row.name}",
    ]


def run(lab: Lab) -> Dict[str, Any]:
    """Run what these GPUs can; on several nodes ``lab.train`` says which of them this is."""
    given = lab.train.split()
    node = int(given[given.index("--node_rank") + 1]) if "--node_rank" in given else None
    here = 0 if lab.dry else len(find_gpus().usable())
    names = [] if lab.dry else [gpu.name for gpu in find_gpus().usable()]
    found = []
    for row in ROWS:
        with tempfile.TemporaryDirectory(prefix="pipeloom-lab-") as folder:
            real = command(row, "runs", lab)
            result: Dict[str, Any] = {**row._asdict(), "command": shlex.join(["python", "entry.py", *real[2:]])}
            lab.say(result["command"])
            needed = row.gpus if node is None else row.nodes
            if lab.dry and lab.quick and row.nodes == 2:
                result["tiny_s"] = seconds(command(row, folder, lab, tiny=True), folder, row)
            elif here < needed or (node is not None and node >= row.nodes):
                result["left_out"] = f"needs {needed} GPUs here" if here < needed else f"has no node {node}"
            else:
                result["step_s"] = seconds(command(row, folder, lab), folder, row)
            found.append(result)
    return {"rows": found, "gpus": names, "all_positions": lab.all_positions, "dry": lab.dry}


def seconds(words: Sequence[str], folder: str, row: Row) -> float:
    """Make a run and return the median seconds of its later steps. Raises ``CalledProcessError``."""
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
        env=outside_environment(os.environ),
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, list(words), done.stdout[-2000:])
    lines = [json.loads(line) for line in (Path(folder) / row.name / "metrics.jsonl").read_text().splitlines()]
    batch = int(words[words.index("--train_global_batch_size") + 1])
    return statistics.median(batch / line["samples_per_second"] for line in lines[SKIPPED:])


def render(data: Dict[str, Any]) -> str:
    """Return the table beside the original's; absolute times are those of other GPUs and another network."""
    rows = []
    for row in data["rows"]:
        measured = f"{row['step_s']:.2f}" if "step_s" in row else row.get("left_out", "not run")
        if "tiny_s" in row:
            measured = f"(tiny, on CPUs: {row['tiny_s']:.2f})"
        shape = f"{row['nodes']} x {row['nodes']}, {row['layers']} layers, {row['hidden']} wide, batch {row['batch']}"
        rows.append((shape, row["strategy"], f"{row['published_s']:.2f}", measured, _ratio(data["rows"], row)))
    where = "a dry run: nothing was measured on GPUs" if data["dry"] else ", ".join(data["gpus"]) or "no GPU here"
    positions = "all positions" if data["all_positions"] else "the 20 masked positions"
    commands = "\n".join(f"    {row['command']}" for row in data["rows"])
    return (
        f"Seconds a step, {where}; float32, the decoder untied and over {positions}, no accumulation. The original's are of Tesla M40 "
        f"with OneFlow 0.6; of its batches 32 and 24 are from its launch scripts, that of 4 x 4 is not known. Ratios may be compared, "
        f"seconds not. `intra / inter`: the original's, then measured.\n\n"
        + table(["nodes x GPUs", "strategy", "original", "measured", "intra / inter"], rows, 2)
        + f"\n\n{commands}"
    )


def _ratio(rows: Sequence[Dict[str, Any]], row: Dict[str, Any]) -> str:
    """Return by how much the other strategy is slower, in the line of inter_first."""
    if row["strategy"] != "inter_first":
        return ""
    other = next(one for one in rows if one["nodes"] == row["nodes"] and one["strategy"] == "intra_first")
    text = f"{other['published_s'] / row['published_s']:.2f}"
    return f"{text}, {other['step_s'] / row['step_s']:.2f}" if "step_s" in row and "step_s" in other else text
