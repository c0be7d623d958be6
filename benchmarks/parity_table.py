"""Every layout against a single process, on the same data and weights:
python benchmarks/parity_table.py [--model bert,roberta,gpt2] [--write]

A pairwise choice of layout, strategy, micro-batches, decoder, optimizer, sharding and recompute, for each model; the
page keeps the sections of models that were not run. Ends with 1 when a row is further from its single process than the
tolerance, or when one layout trained twice does not give the same bits.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import origin, page_parser  # noqa: E402  (the checkout is on the path now)
from pipeloom.core.base.errors import PipeloomError  # noqa: E402
from pipeloom.core.commands.cli import parse  # noqa: E402
from pipeloom.core.host.builtin import use_builtin  # noqa: E402
from pipeloom.core.planning.planner import make_plan  # noqa: E402
from pipeloom.plugins import TABLE  # noqa: E402
from pipeloom.plugins.commands.parity import Comparison, Trained, compare, for_comparison, single_process, train_alone  # noqa: E402

use_builtin(TABLE)

TOLERANCE, STEPS = 1e-4, 20
PAGE = ROOT / "docs" / "parity.md"
MODEL = (
    "--num_hidden_layers 2 --num_attention_heads 2 --seq_length 128 --train_global_batch_size 16 --clip_grad_norm 0.5"
)
LAYOUTS = {
    "PP2": "--nnodes 1 --nproc_per_node 2 --nums_split 2",
    "PP4": "--nnodes 2 --nproc_per_node 2 --nums_split 4",
    "DP2": "--nnodes 1 --nproc_per_node 2 --nums_split 1",
    "DP4": "--nnodes 2 --nproc_per_node 2 --nums_split 1",
    "PP2 x DP2": "--nnodes 2 --nproc_per_node 2 --nums_split 2",
    "TP2": "--nnodes 1 --nproc_per_node 2 --nums_split 1 --tensor_parallel 2",
    "PP2 x TP2": "--nnodes 2 --nproc_per_node 2 --nums_split 2 --tensor_parallel 2",
    "DP2 x TP2": "--nnodes 2 --nproc_per_node 2 --nums_split 1 --tensor_parallel 2",
    "PP2 x DP2 x TP2": "--nnodes 2 --nproc_per_node 4 --nums_split 2 --tensor_parallel 2",
}
DECODERS = {
    "tied": "",
    "tied, vectors": "--tied_transfer vectors",
    "tied, table": "--tied_transfer table",
    "untied": "--tie_embeddings false",
}
OPTIMIZERS = {
    "adamw": "--optimizer adamw --learning_rate 1e-3",
    "sgd": "--optimizer sgd --learning_rate 1",
    "lamb": "--optimizer lamb --learning_rate 1e-2",
}
#: (layout, strategy, micro-batches, decoder, optimizer, further options)
BERT_ROWS = [
    ("PP2", "inter_first", 4, "tied, vectors", "adamw", ""),
    ("PP2", "intra_first", 1, "untied", "sgd", ""),
    ("PP4", "inter_first", 4, "tied, table", "sgd", ""),
    ("PP4", "intra_first", 1, "tied, vectors", "adamw", ""),
    ("PP4", "inter_first", 4, "untied", "lamb", "--recompute full"),
    ("DP2", "inter_first", 1, "tied", "sgd", ""),
    ("DP2", "intra_first", 4, "untied", "adamw", ""),
    ("DP2", "inter_first", 4, "tied", "lamb", "--shard parameters"),
    ("DP4", "inter_first", 4, "tied", "adamw", "--shard parameters"),
    ("DP4", "intra_first", 1, "untied", "sgd", ""),
    ("PP2 x DP2", "inter_first", 4, "tied, vectors", "adamw", ""),
    ("PP2 x DP2", "inter_first", 1, "tied, table", "sgd", ""),
    ("PP2 x DP2", "inter_first", 4, "untied", "sgd", ""),
    ("PP2 x DP2", "intra_first", 4, "tied, vectors", "sgd", ""),
    ("PP2 x DP2", "intra_first", 1, "untied", "adamw", ""),
    ("PP2 x DP2", "intra_first", 4, "tied, table", "adamw", ""),
    ("PP2 x DP2", "inter_first", 4, "tied, vectors", "lamb", ""),
    ("DP2", "inter_first", 2, "tied", "sgd", "--shard vocabulary"),
    ("PP2 x DP2", "inter_first", 2, "tied, vectors", "adamw", "--shard vocabulary"),
    ("PP2 x DP2", "intra_first", 2, "tied, table", "lamb", "--shard vocabulary"),
    ("PP2 x DP2", "inter_first", 2, "tied, table", "adamw", "--shard optimizer"),
    ("PP2 x DP2", "intra_first", 4, "tied, vectors", "sgd", "--shard optimizer --recompute full"),
    ("TP2", "inter_first", 1, "tied", "adamw", ""),
    ("TP2", "intra_first", 4, "untied", "sgd", "--recompute full"),
    ("PP2 x TP2", "inter_first", 4, "tied, vectors", "sgd", ""),
    ("PP2 x TP2", "intra_first", 4, "tied, table", "adamw", "--recompute 1"),
    ("DP2 x TP2", "inter_first", 1, "tied", "lamb", "--shard optimizer"),
    ("DP2 x TP2", "intra_first", 4, "untied", "sgd", "--shard parameters"),
    ("PP2 x DP2 x TP2", "inter_first", 2, "tied, vectors", "adamw", ""),
    ("PP2 x DP2 x TP2", "intra_first", 4, "tied, table", "sgd", "--shard parameters --recompute full"),
]
PAIRWISE_ROWS = [
    ("PP2", "inter_first", 4, "tied, vectors", "adamw", ""),
    ("PP2", "intra_first", 2, "tied, table", "sgd", "--recompute full"),
    ("DP2", "inter_first", 1, "tied", "sgd", "--shard optimizer"),
    ("DP2", "intra_first", 4, "untied", "adamw", "--shard parameters --recompute full"),
    ("PP2 x DP2", "intra_first", 4, "tied, vectors", "adamw", "--shard parameters"),
    ("PP2 x DP2", "inter_first", 2, "tied, table", "sgd", "--shard optimizer --recompute 1"),
    ("TP2", "inter_first", 1, "tied", "adamw", "--recompute full"),
    ("TP2", "intra_first", 4, "untied", "sgd", ""),
    ("PP2 x TP2", "inter_first", 4, "tied, vectors", "sgd", ""),
    ("PP2 x TP2", "intra_first", 2, "tied, table", "adamw", "--recompute full"),
]


@dataclass(frozen=True)
class Model:
    """``title``: the model's name; ``plugins``: it and its data; ``rows``; ``twice``: which of them is run twice."""

    title: str
    plugins: str
    rows: List[Tuple]
    twice: int


MODELS = {
    "bert": Model("BERT", "bert,wiki_ofrecord", BERT_ROWS, 10),
    "roberta": Model("RoBERTa", "roberta,wiki_text", PAIRWISE_ROWS, 4),
    "gpt2": Model("GPT-2", "gpt2,text", PAIRWISE_ROWS, 4),
}


@dataclass(frozen=True)
class Row:
    name: Tuple
    found: Comparison

    def text(self) -> str:
        cells = [*map(str, self.name), f"{self.found.loss:.1e}", f"{self.found.parameter:.1e}"]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| layout | strategy | micro-batches | decoder | optimizer | further | loss | final parameter |\n"
    "|---|---|---:|---|---|---|---:|---:|"
)


class Table:
    """Runs the rows; the single process of each kind once."""

    def __init__(self, model: Model, data: List[str]) -> None:
        self._model, self._data = model, data
        self._single: Dict[str, Trained] = {}

    def config(self, layout: str, strategy: str, micro_batches: int, decoder: str, optimizer: str, further: str):
        flags = (
            f"{MODEL} {LAYOUTS[layout]} --grad_acc_steps {micro_batches} {DECODERS[decoder]} "
            f"{OPTIMIZERS[optimizer]} {further}"
        ).split()
        config, plugins = parse(["--plugins", f"{strategy},{self._model.plugins}", *flags, *self._data])
        config = for_comparison(config, STEPS)
        return config, make_plan(config, plugins).model.outputs

    def row(self, name: Tuple) -> Row:
        config, outputs = self.config(*name)
        alone = single_process(config).to_yaml()
        key = alone.replace("intra_first", "inter_first")
        if key not in self._single:
            self._single[key] = train(single_process(config))
        return Row(name, compare(train(config), self._single[key], outputs))

    def repeats(self, name: Tuple) -> bool:
        """Whether two runs of a row give the same losses and final parameters, bit for bit."""
        config, outputs = self.config(*name)
        first, second = train(config), train(config)
        same = all(a[loss] == b[loss] for a, b in zip(first.curve, second.curve) for loss in ("loss", *outputs))
        return same and all(
            np.array_equal(first.weights[parameter], second.weights[parameter]) for parameter in first.weights
        )


def train(config) -> Trained:
    return train_alone(config, "a", [sys.executable, str(ROOT / "entry.py")])


INTRODUCTION = f"""# Parity: every layout against a single process

{STEPS} steps ({MODEL}), dropout 0.1, gradients clipped at every step, warmup and linear decay. Each row is a layout against one
process that takes the whole batch in one go: the largest difference of a loss at any step, and of any number in the
final parameters. The tolerance is {TOLERANCE:g}. SGD stands beside AdamW because AdamW hides a wrong scale of the gradients.
"vectors" and "table" are the two ways of a tied embedding across stages (`--tied_transfer`).
"""


def section(name: str, rows: List[Row], repeats: bool, data: str, seconds: float) -> str:
    """The part of the page on one model."""
    model = MODELS[name]
    worst = max(max(row.found.loss, row.found.parameter) for row in rows)
    twice = ", ".join(str(part) for part in model.rows[model.twice] if part)
    return f"""## {model.title}

{origin(f"python benchmarks/parity_table.py --model {name} --write", seconds)}

On {data}.

{HEAD}
{chr(10).join(row.text() for row in rows)}

The largest difference is {worst:.1e}.

The same run twice ({twice}): {"the same bits, losses and parameters" if repeats else "NOT the same bits"}.

One row as a command, with both curves: `python entry.py parity --plugins inter_first,{model.plugins} --nums_split 2 --steps 20`.
"""


def with_section(text: str, name: str, part: str) -> str:
    """``text`` with ``part`` in the place of the section on the model ``name``; sections are in the order of models."""
    found = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    sections = {one.title: f"## {one.title}\n{found[one.title]}" for one in MODELS.values() if one.title in found}
    sections[MODELS[name].title] = part
    ordered = [sections[one.title].rstrip() + "\n" for one in MODELS.values() if one.title in sections]
    return "\n".join([INTRODUCTION, *ordered])


def run(name: str, data: List[str]) -> Tuple[List[Row], bool]:
    """The rows of a model, and whether one of them gives the same bits twice."""
    model = MODELS[name]
    table, rows = Table(model, data), []
    print(f"{model.title}\n{HEAD}", flush=True)
    for row in model.rows:
        rows.append(table.row(row))
        print(rows[-1].text(), flush=True)
    repeats = table.repeats(model.rows[model.twice])
    print(f"the same run twice gives {'the same bits' if repeats else 'OTHER bits'}", flush=True)
    return rows, repeats


def main() -> int:
    parser = page_parser(__doc__, PAGE, records=True)
    parser.add_argument("--model", default=",".join(MODELS), help="which models, with commas between them [all]")
    arguments = parser.parse_args()
    path, good = arguments.ofrecord_path, True
    for name in arguments.model.split(","):
        given, began = path if name == "bert" else None, time.monotonic()
        try:
            rows, repeats = run(name, ["--ofrecord_path", given] if given else [])
        except PipeloomError as error:
            print(f"parity_table: {error}", file=sys.stderr)
            return 1
        good = good and repeats and all(row.found.within(TOLERANCE) for row in rows)
        if arguments.write:
            data = f"the records of {Path(given).name}" if given else "the embedded sample"
            part = section(name, rows, repeats, data, time.monotonic() - began)
            PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), name, part), encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
