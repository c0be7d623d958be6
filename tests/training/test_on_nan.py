"""A batch that makes the loss or a gradient infinite: the run stops with its records, or goes on as if the batch had
never been.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from jobs import NO_LAYERS, ROOT, TINY, environment, metrics

from pipeloom.core.checkpoint.manifest import read_manifest

#: wiki_ofrecord with batches that are bad (a weight that is no number; so the loss is none), or that are never drawn,
#: by
#: their numbers. They go bad behind the check of what a dataset returns.
PLUGIN = """
import os
import numpy as np
import pipeloom
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.plugins.datasets.wiki_ofrecord import pipeloom_add_options, pipeloom_open_dataset  # noqa: F401

BAD, LEFT_OUT = ([int(n) for n in os.environ.get(name, "").split(",") if n] for name in ("BAD", "LEFT_OUT"))

@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    from pipeloom.plugins.executors.oneflow.feed import Feed
    inputs, read = Feed.inputs, TrainingBatches.read
    def poisoned(self, step, names, position, width):
        values = read(self, step, names, position, width)
        if step in BAD and "masked_lm_weights" in values:
            row = 5 - position * len(values["masked_lm_weights"])
            if 0 <= row < len(values["masked_lm_weights"]):
                values["masked_lm_weights"][row, 0] = np.nan
        return values
    TrainingBatches.read = poisoned
    Feed.inputs = lambda self, step: inputs(self, step + sum(number <= step for number in LEFT_OUT))
"""
FLAGS = [*TINY, "--train_steps", "6", "--nnodes", "1", "--save_final_weights", "true"]
PP2, ONE = (
    ["--nproc_per_node", "2", "--nums_split", "2"],
    ["--nproc_per_node", "1", "--nums_split", "1", "--grad_acc_steps", "1"],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nan")
    (folder / "poison.py").write_text(PLUGIN)
    return folder


def run(folder, name, *flags, code=0, **variables):
    result = subprocess.run(
        [
            sys.executable,
            str(ROOT / "entry.py"),
            "--plugins",
            f"inter_first,{NO_LAYERS},./poison.py",
            "--output_dir",
            str(folder / name),
            *FLAGS,
            *flags,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        env=environment(**variables),
        cwd=folder,
    )
    assert result.returncode == code, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def curve(folder, name):
    return [(entry["step"], entry["loss"], entry["lr"], entry["grad_norm"]) for entry in metrics(folder / name)]


def test_a_batch_is_left_out_as_if_it_had_never_been(folder):
    """Also the very first batch, whose state the engine has only just made."""
    with ThreadPoolExecutor(1) as beside:
        never = beside.submit(
            run, folder, "never", *PP2, "--save_every", "0", LEFT_OUT="0,2"
        )  # of the batches that remain after the first
        said = run(folder, "skip", *PP2, "--on_nan", "skip", BAD="0,3")
    never.result()
    assert (
        said.count("left out: the loss is nan") == 2
        and "at step 1, with the records " in said
        and "(2 of at most 10)" in said
    )
    assert curve(folder, "skip") == curve(folder, "never")
    skip, never = ((folder / name / "final_weights.safetensors").read_bytes() for name in ("skip", "never"))
    assert skip == never
    position = read_manifest(folder / "skip" / "checkpoints" / "step_0000006").position
    assert (position["step"], position["data_step"], position["skipped"]) == (6, 8, 2)


def test_it_gives_up_after_a_limit(folder):
    said = run(folder, "limit", *ONE, "--on_nan", "skip", "--nan_limit", "1", "--save_every", "1", code=1, BAD="2,3")
    assert "2 batches were left out, more than --nan_limit 1" in said
    # What was saved before is whole.
    assert sorted(path.name for path in (folder / "limit" / "checkpoints").iterdir()) == [
        "last",
        "step_0000001",
        "step_0000002",
    ]


def test_it_stops_with_the_step_and_the_records_and_saves_no_damage(folder):
    """Nobody looks at the losses between two log lines; the step is found all the same, and nothing after it is
    saved.
    """
    said = run(folder, "stop", *ONE, "--log_every", "100", "--save_every", "2", code=1, BAD="2")
    assert (
        "pipeloom: error: the loss is nan (mlm_loss nan, nsp_loss 0." in said
        and ") at step 3, with the records " in said
    )
    from pipeloom.core.commands.cli import parse
    from pipeloom.core.planning.planner import make_plan

    config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *FLAGS])
    records = make_plan(config, plugins).order().indices(2)
    assert f"with the records {', '.join(map(str, records))}: try" in said
    assert sorted(path.name for path in (folder / "stop" / "checkpoints").iterdir()) == ["last", "step_0000002"]
