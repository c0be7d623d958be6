"""How fast OneFlow multiplies matrices on this CPU, by which BLAS: python benchmarks/blas.py [--steps] [--repeats N]

Prints a table in Markdown: GFLOP/s of the products of a BERT of hidden size 256, for the bundled OpenBLAS by kernel and
for MKL on one thread and on all cores, each product held against float64. ``--steps``: whole steps of training in one
process besides. ``--repeats N``: N short runs by MKL must end in the same weights, bit for bit; with
``--compute_threads 2`` the engine itself computes on two threads, which the bundled OpenBLAS cannot bear.

MKL is that of this environment, else one in a temporary environment over it (pip, 0.9 GB).
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402  (the checkout is on the path now)
from pipeloom.core.base.variables import outside_environment  # noqa: E402
from pipeloom.core.contract.topology import Cluster  # noqa: E402
from pipeloom.plugins.executors.oneflow import OneFlow, processor  # noqa: E402

#: (rows, columns, inner): hidden layers, the MLP there and back, the decoder over 80 predictions, its two gradients.
SHAPES = [(512, 256, 256), (512, 1024, 256), (512, 256, 1024), (80, 30522, 256), (80, 256, 30522), (30522, 256, 80)]
_MODEL = (
    "--plugins inter_first,bert,wiki_ofrecord,-tensorboard --nnodes 1 --nproc_per_node 1 --nums_split 1 "
    "--num_hidden_layers 4 --hidden_size 256 --num_attention_heads 4 --vocab_size 30522 "
    "--train_global_batch_size 16 --grad_acc_steps 1 --save_every 0 --device cpu"
)
_SMALL = "--num_hidden_layers 2 --num_attention_heads 1 --hidden_size 64 --seq_length 64 --grad_acc_steps 4"
#: A plugin that leaves the engine as many compute threads as there are cores.
_THREADS = "from pipeloom.plugins.executors.oneflow import engine\nengine._one_compute_thread = lambda oneflow: None\n"
_THREADS += "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_on_run_start(run):\n    pass\n"


class Way:
    """One way of multiplying: options of a run, and variables that a user may set."""

    def __init__(self, name: str, blas: str, threads: int = 1, **variables: str) -> None:
        self.name, self.variables = name, variables
        self.options = ["--blas", blas, "--threads_per_rank", str(threads)]
        self._config = argparse.Namespace(blas=blas, threads_per_rank=threads)

    def environment(self) -> Dict[str, str]:
        """What a rank alone on this machine gets."""
        return OneFlow(self._config).environment({**outside_environment(os.environ), **self.variables}, Cluster(1, 1))


def ways(cores: int) -> List[Way]:
    found = [
        Way(f"OpenBLAS {kernel}", "openblas", OPENBLAS_CORETYPE=kernel) for kernel in ("HASWELL", "SKYLAKEX", "ZEN")
    ]
    found.append(Way("MKL, 1 thread", "mkl"))
    return found + [Way(f"MKL, {cores} threads", "mkl", cores)] * (cores > 1)


def products() -> None:
    """Print GFLOP/s and the largest relative error by shape, as JSON; in a process of its own."""
    import time

    import numpy as np

    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    flow = import_oneflow()
    found: Dict[str, Tuple[float, float]] = {}
    for rows, columns, inner in SHAPES:
        for turned in ((False, False), (False, True), (True, False)):
            a = flow.randn(*((inner, rows) if turned[0] else (rows, inner)))
            b = flow.randn(*((columns, inner) if turned[1] else (inner, columns)))
            work = 2 * rows * columns * inner
            count, best = max(3, int(1.2e9 / work)), float("inf")
            for _ in range(5):
                began = time.perf_counter()
                for _ in range(count):
                    product = flow.matmul(a, b, transpose_a=turned[0], transpose_b=turned[1])
                value = product.numpy()
                best = min(best, (time.perf_counter() - began) / count)
            left, right = (x.numpy().astype(np.float64) for x in (a, b))
            exact = (left.T if turned[0] else left) @ (right.T if turned[1] else right)
            name = f"{rows} x {columns} x {inner} {'NT'[turned[0]]}{'NT'[turned[1]]}"
            found[name] = (work / best / 1e9, float(np.abs(value - exact).max() / np.abs(exact).max()))
    print(json.dumps(found))


def table(chosen: List[Way]) -> None:
    rows: Dict[str, List[str]] = {}
    for way in chosen:
        done = subprocess.run(
            [sys.executable, __file__, "--products"], env=way.environment(), stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f"{way.name}: the products end with {done.returncode}")
        for shape, (speed, off) in json.loads(done.stdout.splitlines()[-1]).items():
            assert off < 1e-5, f"{way.name}, {shape}: off by {off:.1e}"
            rows.setdefault(shape, []).append(f"{speed:.0f}")
    _print("product, rows x columns x inner", [way.name for way in chosen], rows)


def steps(chosen: List[Way], rounds: int = 3) -> None:
    """Print the median milliseconds a sample of whole steps, in interleaved rounds."""
    times: Dict[str, List[float]] = collections.defaultdict(list)
    for _ in range(rounds):
        for way in chosen:
            lines = _train(way, [*_MODEL.split(), "--train_steps", "12", "--log_every", "1"])[0]
            speeds = sorted(line["samples_per_second"] for line in lines[3:])
            times[way.name].append(1e3 / speeds[len(speeds) // 2])
    rows = {"step of a BERT, ms a sample": [f"{sorted(times[way.name])[rounds // 2]:.1f}" for way in chosen]}
    _print("", [way.name for way in chosen], rows)


def repeats(way: Way, count: int, compute_threads: int) -> None:
    """Train ``count`` times and count how often which weights came out."""
    found: Dict[str, int] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="pipeloom-blas-") as folder:
        plugins = "inter_first,bert,wiki_ofrecord,-tensorboard"
        if compute_threads > 1:
            Path(folder, "threads.py").write_text(_THREADS)
            plugins += f",{folder}/threads.py"
        flags = [*_MODEL.split(), *_SMALL.split(), "--plugins", plugins, "--train_steps", "3"]
        for _ in range(count):
            found[_train(way, [*flags, "--save_final_weights", "true"])[1]] += 1
    which = f"{way.name}, {compute_threads} compute thread{'s' * (compute_threads != 1)}"
    print(f"{which}: {count} runs ended in {len(found)} different weights {sorted(found.values(), reverse=True)}")


def _train(way: Way, flags: List[str]) -> Tuple[List[Dict[str, float]], str]:
    """Train; return the log lines, and a hash of the final weights ("" where they are not written)."""
    with tempfile.TemporaryDirectory(prefix="pipeloom-blas-") as folder:
        run = Path(folder, "run")
        subprocess.run(
            [sys.executable, str(ROOT / "entry.py"), *flags, *way.options, "--output_dir", str(run)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**outside_environment(os.environ), **way.variables},
        )
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        weights = run / "final_weights.safetensors"
        return lines, hashlib.sha256(weights.read_bytes()).hexdigest()[:16] if weights.exists() else ""


def _print(first: str, names: List[str], rows: Dict[str, List[str]]) -> None:
    print(f"| {first} | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(values)} |")
    print(flush=True)


def with_mkl(arguments: List[str]) -> int:
    """Run this script in a temporary environment that has MKL besides what this one has."""
    with tempfile.TemporaryDirectory(prefix="pipeloom-mkl-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder, "bin", "python")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "mkl"], check=True)
        places = sysconfig.get_paths(vars={"base": folder, "platbase": folder})
        Path(places["purelib"], "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        return subprocess.run([str(python), __file__, *arguments]).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--steps", action="store_true", help="whole steps of training, too")
    parser.add_argument("--repeats", type=int, default=0, help="runs that must end in the same weights")
    parser.add_argument("--compute_threads", type=int, default=1, choices=(1, 2), help="threads of the engine itself")
    parser.add_argument("--blas", default="mkl", choices=("mkl", "openblas"), help="that of --repeats")
    given = parser.parse_args()
    if given.products:
        products()
        return 0
    try:
        version = metadata.version("mkl")
    except metadata.PackageNotFoundError:
        return with_mkl(sys.argv[1:])
    cores = processor.cores()
    print(f"{machine()}; OneFlow {metadata.version('oneflow')}, MKL {version}\n")
    if given.repeats:
        threads = cores if given.blas == "mkl" and given.compute_threads == 1 else 1
        repeats(Way(given.blas, given.blas, threads), given.repeats, given.compute_threads)
        return 0
    chosen = ways(cores)
    table(chosen)
    if given.steps:
        steps([way for way in chosen if "X" not in way.name and "ZEN" not in way.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
