"""``entry.py parity``: the given layout against a single process, on the same data and initial weights."""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

from pipeloom.core.config import Config
from pipeloom.core.errors import RunError, UsageError
from pipeloom.core.plan import make_plan
from pipeloom.core.plugin_manager import PluginManager
from pipeloom.core.run import FINAL_WEIGHTS


def take_options(arguments: Sequence[str]) -> Tuple[argparse.Namespace, List[str]]:
    """Split off ``--steps`` and ``--tolerance``; the rest are the options of a training run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--steps", default="20")
    parser.add_argument("--tolerance", default="1e-4")
    options, rest = parser.parse_known_args(list(arguments))
    try:
        options.steps, options.tolerance = int(options.steps), float(options.tolerance)
    except ValueError:
        raise UsageError("--steps must be a whole number and --tolerance a number") from None
    if options.steps < 1 or not options.tolerance > 0:
        raise UsageError("--steps must be at least 1 and --tolerance more than 0")
    return options, rest


def parity(config: Config, plugins: PluginManager, steps: int, tolerance: float) -> int:
    """Run both, print both curves and the largest differences of losses and final parameters.

    Returns 0 when no loss and no parameter differs by more than ``tolerance``, else 1. Raises
    ``UsageError`` for options that do not fit and ``RunError`` when one of the runs fails.
    """
    if config.node_rank is not None:
        raise UsageError("parity runs on this host alone: leave --node_rank out, the nodes are logical then")
    if "train_steps" in config.given or "epochs" in config.given:
        raise UsageError("parity takes --steps instead of --train_steps and --epochs")
    config = config.replace(train_steps=steps, log_every=1, output_dir=None, save_final_weights=True)
    plan = make_plan(config, plugins)
    alone = config.replace(nnodes=1, nproc_per_node=1, nums_split=1, grad_acc_steps=1, master_addr=None, master_port=None)
    print(f"layout: {plan.mesh.pipeline} pipeline stages x {plan.mesh.data} data-parallel x {config.grad_acc_steps} micro-batches on "
          f"{plan.cluster}; {plan.placement.summary()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pipeloom-parity-") as folder:
        layout = _run(Path(folder) / "layout", config)
        print("single process ...", flush=True)
        single = _run(Path(folder) / "single", alone)
        return _report(plan.model.outputs, layout, single, tolerance)


def _run(directory: Path, config: Config) -> Tuple[List[Dict[str, float]], Dict[str, np.ndarray]]:
    from safetensors.numpy import load_file

    file = directory.with_suffix(".yaml")
    file.write_text(config.to_yaml())
    result = subprocess.run([sys.executable, str(Path(sys.argv[0]).resolve()), "train", "--config", str(file), "--output_dir", str(directory)],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=outside_environment(os.environ))
    if result.returncode:
        print(result.stdout, file=sys.stderr)
        raise RunError(f"the {directory.name} run ended with exit code {result.returncode}; what it said is above")
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], load_file(str(directory / FINAL_WEIGHTS))


def _report(outputs: Sequence[str], layout, single, tolerance: float) -> int:
    (curve, weights), (reference, reference_weights) = layout, single
    print(f"{'step':>5} {'single process':>16} {'this layout':>16} {'difference':>12}")
    for a, b in zip(reference, curve):
        print(f"{a['step']:>5} {a['loss']:>16.7f} {b['loss']:>16.7f} {abs(a['loss'] - b['loss']):>12.1e}")
    loss_difference = max(abs(a[name] - b[name]) for a, b in zip(reference, curve) for name in ("loss", *outputs))
    differences = {name: float(np.abs(weights[name] - value).max()) for name, value in reference_weights.items()}
    worst = max(differences, key=differences.get)
    equal = loss_difference <= tolerance and differences[worst] <= tolerance
    print(f"largest difference of a loss: {loss_difference:.1e}")
    print(f"largest difference of a final parameter: {differences[worst]:.1e} ({worst})")
    print(f"{'equal' if equal else 'NOT equal'} at tolerance {tolerance:g} over {len(curve)} steps")
    return 0 if equal else 1
