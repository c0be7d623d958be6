"""``entry.py parity``: equal and not equal, exit codes, and what it refuses."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from jobs import NO_LAYERS, ROOT, TINY, command, environment

from pipeloom.core.commands.cli import main
from pipeloom.plugins.commands.parity import Trained, compare

#: An optimizer whose rate grows with the number of ranks.
WRONG = """
import os
import pipeloom
from pipeloom.plugins.optimizers import schedules
from pipeloom.plugins.optimizers.schedules import pipeloom_add_options

@pipeloom.hookimpl(specname="pipeloom_lr_schedule")
def scaled(config):
    config = config.replace(learning_rate=config.learning_rate * float(os.environ.get("WORLD_SIZE", "1")))
    return schedules.pipeloom_lr_schedule(config)
"""


def run_parity(*flags):
    line = command(*flags)
    line.insert(2, "parity")
    result = subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, env=environment()
    )
    return result.returncode, result.stdout


def test_equal_layouts_are_called_equal():
    code, output = run_parity(*TINY[:-2], "--num_hidden_layers", "2", "--nums_split", "2", "--steps", "6")
    assert code == 0, output
    lines = output.splitlines()
    assert [line.split()[0] for line in lines if line[:5].strip().isdigit()] == list("123456")
    assert lines[-1] == "equal at tolerance 0.0001 over 6 steps"
    assert "2 pipeline stages x 2 data-parallel x 4 micro-batches" in lines[0]


def test_a_plugin_that_depends_on_the_layout_is_found_out(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    line = command(
        *TINY[:-2],
        "--steps",
        "5",
        "--warmup_steps",
        "1",
        "--nnodes",
        "1",
        "--nproc_per_node",
        "2",
        "--nums_split",
        "1",
        "--optimizer",
        "sgd",
        "--learning_rate",
        "0.1",
        model=NO_LAYERS,
    )
    line.insert(2, "parity")
    line[line.index("--plugins") + 1] += f",{tmp_path / 'wrong.py'}"
    result = subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, env=environment(), cwd=ROOT
    )
    assert result.returncode == 1, result.stdout
    assert result.stdout.splitlines()[-1] == "NOT equal at tolerance 0.0001 over 5 steps"


@pytest.mark.fast
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--steps", "x"], "--steps must be a whole number and --tolerance a number"),
        (["--train_steps", "5"], "parity takes --steps instead of --train_steps and --epochs"),
        (
            ["--node_rank", "0", "--master_addr", "10.0.0.1"],
            "parity runs on this host alone: leave --node_rank out, the nodes are logical then",
        ),
        (
            ["--nums_split", "3"],
            "--nums_split 3 does not divide the 4 devices of 2 logical nodes x 2 CPU devices: choose one of 1, 2, 4",
        ),
    ],
)
def test_refusals(capsys, flags, message):
    assert main(["parity", "--plugins", "inter_first,bert,wiki_ofrecord", *flags]) == 2
    assert capsys.readouterr().err == f"pipeloom: error: {message}\n"


@pytest.mark.fast
def test_an_evaluation_counts_too():
    step, weights = {"step": 1, "loss": 3.0, "part": 1.0}, {"w": np.zeros(2)}
    evaluations = [[{**step, "accuracy": accuracy, "part": part}] for accuracy, part in ((0.5, 1.0), (0.75, 1.25))]
    one, two = (Trained([step], weights, evaluated) for evaluated in evaluations)
    assert compare(one, two, ("part",)).loss == 0.25 and compare(one, one, ("part",)).loss == 0
    without_labels = Trained([step], weights, [{"step": 1, "f1": 50.0}])
    assert compare(without_labels, without_labels, ("part",)).loss == 0
