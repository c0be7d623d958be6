"""Run directories whose checkpoints have a manifest and no tensors, and what ``--resume`` makes of them."""

from __future__ import annotations

from checkpoints import record

from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.resume import check_changes
from pipeloom.core.commands.cli import parse_run
from pipeloom.core.planning.planner import make_plan

PLUGINS = ["--plugins", "inter_first,bert,wiki_ofrecord"]

FLAGS = [
    "--num_attention_heads",
    "2",
    "--hidden_size",
    "64",
    "--train_steps",
    "50",
    "--grad_acc_steps",
    "2",
    "--learning_rate",
    "0.01",
]


def write(directory, step, *flags, **changes):
    config, plugins, _ = parse_run([*PLUGINS, *flags])
    return record(make_plan(config, plugins), plugins, directory, step, **changes)


def resume(directory, *flags):
    """The configuration of ``--resume directory flags``, and what is said of changes."""
    config, plugins, resumed = parse_run(["--resume", str(directory), *flags])
    plan = make_plan(config, plugins)
    return config, check_changes(plan.config, plan, plugins, Checkpoint(resumed.path))
