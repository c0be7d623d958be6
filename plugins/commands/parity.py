"""``entry.py parity``: the given layout against a single process, on the same data and initial weights."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.variables import outside_environment
from pipeloom.core.config.config import Config
from pipeloom.core.config.origins import origins_in_errors
from pipeloom.core.contract.commands import Command
from pipeloom.core.contract.options import UNSET
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.launch.processes import die_with, own_command
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.training.run import FINAL_WEIGHTS


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


@dataclass(frozen=True)
class Trained:
    """What a run left: the logged metrics of each step, the final parameters by name, and with ``--eval_every`` the
    evaluations.
    """

    curve: List[Dict[str, float]]
    weights: Dict[str, np.ndarray]
    evaluations: Sequence[Dict[str, float]] = ()


@dataclass(frozen=True)
class Comparison:
    """The largest differences between two runs: of a loss (the total and its parts), of a final parameter."""

    loss: float
    parameter: float
    worst_parameter: str

    def within(self, tolerance: float) -> bool:
        return self.loss <= tolerance and self.parameter <= tolerance  # a NaN is within nothing


def parity(config: Config, plugins: PluginManager, steps: int, tolerance: float) -> int:
    """Run both, print both curves and the largest differences of losses and final parameters.

    Returns 0 when no loss and no parameter differs by more than ``tolerance``, else 1. Raises
    ``UsageError`` for options that do not fit and ``RunError`` when one of the runs fails.
    """
    if config.node_rank is not None:
        raise UsageError("parity runs on this host alone: leave --node_rank out, the nodes are logical then")
    if "train_steps" in config.given or "epochs" in config.given:
        raise UsageError("parity takes --steps instead of --train_steps and --epochs")
    if config.stop_at is not None:
        raise UsageError("parity takes --steps instead of --stop_at")
    if config.resume is not None:
        raise UsageError("parity compares runs from their beginning: leave --resume out")
    config = for_comparison(config, steps)
    plan = make_plan(config, plugins)
    tensor = f" x {plan.mesh.tensor} tensor-parallel" if plan.mesh.tensor > 1 else ""
    print(
        f"layout: {plan.mesh.pipeline} pipeline stages x {plan.mesh.data} data-parallel{tensor} x "
        f"{config.grad_acc_steps} micro-batches on "
        f"{plan.cluster}; {plan.placement.summary()}",
        flush=True,
    )
    layout = train_alone(config, "the layout's")
    print("single process ...", flush=True)
    single = train_alone(single_process(config), "the single process's")
    return _report(layout, single, compare(layout, single, plan.model.outputs), tolerance)


def for_comparison(config: Config, steps: int) -> Config:
    """``config`` as a run of ``steps`` steps that logs each of them and keeps its final parameters."""
    return config.replace(
        train_steps=steps,
        epochs=None,
        log_every=1,
        output_dir=None,
        save_final_weights=True,
        save_every=0,
        stop_at=None,
    )


def single_process(config: Config) -> Config:
    """``config`` on one device: one stage, the whole batch in one go, nothing spread or computed twice."""
    facts = {name: option.single_process for name, option in config.declared.items()}
    return config.replace(**{name: value for name, value in facts.items() if value is not UNSET})


def train_alone(
    config: Config,
    whose: str,
    program: Optional[Sequence[str]] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> Trained:
    """Train by a command of its own (``program``: what starts pipeloom, default: this very program, in the same
    environment).

    Raises ``RunError``, after what the run said, when it fails.
    """
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory(prefix="pipeloom-parity-") as folder:
        file, directory = Path(folder) / "config.yaml", Path(folder) / "run"
        file.write_text(config.to_yaml(), encoding="utf-8")
        command = [*(program or own_command()), "train", "--config", str(file), "--output_dir", str(directory)]
        result = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=outside_environment(os.environ) if environment is None else environment,
            preexec_fn=partial(die_with, os.getpid()),
        )
        if result.returncode:
            print(result.stdout, file=sys.stderr)
            raise RunError(f"{whose} run ended with exit code {result.returncode}; what it said is above")
        curve, evaluations = (_read_lines(directory / name) for name in ("metrics.jsonl", "evaluation.jsonl"))
        return Trained(curve, load_file(str(directory / FINAL_WEIGHTS)), evaluations)


def _read_lines(file: Path) -> List[Dict[str, float]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def compare(layout: Trained, single: Trained, outputs: Sequence[str]) -> Comparison:
    """How far ``layout`` is from ``single``; ``outputs`` are the parts of the loss. Of evaluations too, but for what
    counts hits: rounding may turn round the order of two answers that are nearly equal.
    """
    pairs = [*zip(single.curve, layout.curve), *zip(single.evaluations, layout.evaluations)]
    loss = np.max(
        [abs(a[name] - b[name]) for a, b in pairs for name in ("loss", *outputs) if name in a]
    )  # without labels it has none
    differences = {name: np.abs(layout.weights[name] - value).max() for name, value in single.weights.items()}
    worst = max(differences, key=lambda name: np.nan_to_num(differences[name], nan=np.inf))
    return Comparison(float(loss), float(differences[worst]), worst)


def _report(layout: Trained, single: Trained, found: Comparison, tolerance: float) -> int:
    print(f"{'step':>5} {'single process':>16} {'this layout':>16} {'difference':>12}")
    for a, b in zip(single.curve, layout.curve):
        print(f"{a['step']:>5} {a['loss']:>16.7f} {b['loss']:>16.7f} {abs(a['loss'] - b['loss']):>12.1e}")
    for a, b in zip(single.evaluations, layout.evaluations):
        for name in [name for name in a if name != "step"]:
            print(
                f"evaluation after step {a['step']}: {name} single process {a[name]:.7f}, this layout {b[name]:.7f}, "
                f"difference {abs(a[name] - b[name]):.1e}"
            )
    equal = found.within(tolerance)
    print(f"largest difference of a loss: {found.loss:.1e}")
    print(f"largest difference of a final parameter: {found.parameter:.1e} ({found.worst_parameter})")
    print(f"{'equal' if equal else 'NOT equal'} at tolerance {tolerance:g} over {len(layout.curve)} steps")
    return 0 if equal else 1


def parity_command(arguments: Sequence[str]) -> int:
    """Compare the layout that the options give with a single process; returns the exit code."""
    from pipeloom.core.commands.cli import parse  # it imports the table of commands

    options, rest = take_options(arguments)
    config, plugins = parse(rest)
    with origins_in_errors(config):
        return parity(config, plugins, options.steps, options.tolerance)


COMMAND = Command("parity", "compare a layout with a single process", parity_command)
