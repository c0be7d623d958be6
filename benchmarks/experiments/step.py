"""How long a step takes, beside PyTorch on the same two cores."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from benchmarks.experiments.lab import Lab, Layout, middle, model, sample_ms, spread, table, train

PURPOSE = "A step beside PyTorch's"
#: (layers, hidden, heads), that of the middle with more repetitions.
SIZES = [(2, 128, 2), (4, 256, 4), (6, 384, 6)]
SAMPLES, PLAIN = 16, "PyTorch, plain"
_SIDE = Path(__file__).with_name("pytorch_step.py")
_TORCH = {PLAIN: "plain", "PyTorch, transformers": "transformers", "PyTorch, DDP by gloo, 2 ranks": "ddp"}


def layouts(mkl: str) -> List[Layout]:
    """Return our layouts; ``mkl``: the interpreter of an environment with MKL."""
    one, two = "--grad_acc_steps 1 --nums_split 1", "--nums_split 1 --grad_acc_steps 1"
    return [
        Layout("one process", f"{one} --blas openblas"),
        Layout("one process, MKL on 2 threads", f"{one} --blas mkl --threads_per_rank 2", python=mkl),
        Layout("DP2", two, 2),
        Layout("DP2 --shard optimizer", f"{two} --shard optimizer", 2),
        Layout("DP2 --shard vocabulary", f"{two} --shard vocabulary", 2),
        Layout("DP2 --shard vocabulary, MKL", f"{two} --shard vocabulary --blas mkl", 2, python=mkl),
        Layout("PP2, 8 micro-batches", "--nums_split 2 --grad_acc_steps 8", 2),
    ]


def run(lab: Lab) -> Dict[str, Any]:
    mkl = lab.environment("mkl", ["mkl"], beside=True)
    torch = lab.environment("torch", ["torch", "transformers", "numpy"], beside=False)
    versions = subprocess.run([torch, str(_SIDE), "versions"], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = []
    for size in SIZES[1:2] if lab.quick else SIZES:
        ways: List[Tuple[str, Callable[[], float]]] = [
            (name, lambda form=form, size=size: _pytorch(torch, form, size)) for name, form in _TORCH.items()
        ]
        ways += [(one.name, lambda one=one, size=size: _ours(lab, one, size)) for one in layouts(mkl)]
        times: Dict[str, List[float]] = {name: [] for name, _ in ways}
        for _ in range(1 if lab.quick else 3 if size == SIZES[1] else 2):
            for name, way in ways:  # interleaved, so that what the machine does besides falls on all
                times[name].append(way())
                lab.say(f"{size}, {name}: {times[name][-1]:.1f} ms a sample")
        found.append({"size": size, "times": {name: middle(values) for name, values in times.items()}})
    return {"versions": json.loads(versions), "sizes": found}


def _ours(lab: Lab, layout: Layout, size: Tuple[int, int, int]) -> float:
    flags = f"{model(*size)} --train_global_batch_size {SAMPLES} --train_steps 22 --log_every 4"
    return sample_ms(train(lab, layout, flags))


def _pytorch(python: str, form: str, size: Tuple[int, int, int]) -> float:
    command = [python, str(_SIDE), form, *map(str, size), str(SAMPLES)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["ms"])


def render(data: Dict[str, Any]) -> str:
    parts = [
        f"Milliseconds a sample, {SAMPLES} samples a step: median of interleaved runs (least to most), and the share of "
        f"plain PyTorch's on 2 threads. BERT of layers / hidden / heads, 128 tokens, vocabulary 30522, 20 predictions, "
        f"decoded alone, dropout 0.1, clipping by 1, AdamW. "
        + ", ".join(f"{name} {version}" for name, version in data["versions"].items())
        + ".",
    ]
    names = list(data["sizes"][0]["times"])
    head = ["", *(" / ".join(map(str, one["size"])) + " | of PyTorch" for one in data["sizes"])]
    rows = []
    for name in names:
        row = [name]
        for one in data["sizes"]:
            figure, plain = one["times"][name], one["times"][PLAIN]["median"]
            row.append(f"{spread(figure)} | {figure['median'] / plain:.2f}")
        rows.append(row)
    lines = table(head, rows).splitlines()
    lines[1] = "|---|" + "---:|---:|" * len(data["sizes"])
    return "\n\n".join([*parts, "\n".join(lines)])
