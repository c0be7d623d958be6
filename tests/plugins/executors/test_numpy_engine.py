"""A second executor under the same trainer: the contract is all that models, tasks, trainer and checkpoints know."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from jobs import ONE_PROCESS, ROOT, TINY, Training, command, environment, largest_difference, metrics, train

from pipeloom.core.checkpoint import tensors
from pipeloom.core.checkpoint.manifest import read_manifest, tensor_files

STEPS = 5
FLAGS = [*TINY, *ONE_PROCESS, "--hidden_size", "32", "--seq_length", "64", "--train_global_batch_size", "8"]
FLAGS += ["--grad_acc_steps", "2", "--train_steps", str(STEPS), "--clip_grad_norm", "1"]
FLAGS += ["--eval_every", str(STEPS), "--eval_samples", "20"]
MEASURED = ("loss", "mlm_loss", "nsp_loss", "mlm_accuracy", "nsp_accuracy")
#: The data, and the engine with them.
NUMPY = {"data": f"wiki_ofrecord,{ROOT / 'tests' / 'numpy_engine' / 'plugin.py'}"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The curves of OneFlow and of numpy, which stopped after three steps once and went on."""
    folder = tmp_path_factory.mktemp("engines")
    oneflow = Training(folder / "oneflow", *FLAGS, "--save_every", "0")
    train(folder / "whole", *FLAGS, **NUMPY)
    train(folder / "half", *FLAGS, "--stop_at", "3", **NUMPY)
    resumed = [sys.executable, ROOT / "entry.py", "--resume", folder / "half", "--output_dir", folder / "resumed"]
    subprocess.run(resumed, check=True, env=environment(), cwd=folder, timeout=60)
    oneflow.curve()
    return folder


def saved(run):
    checkpoint = run / "checkpoints" / f"step_{STEPS:07d}"
    return {
        name: tensors.read(checkpoint / file, name) for name, file in tensor_files(read_manifest(checkpoint)).items()
    }


def test_five_losses_and_the_evaluation_equal_those_of_oneflow(runs):
    curves = [metrics(runs / name) for name in ("oneflow", "whole")]
    assert len(curves[0]) == STEPS
    for name in ("loss", "mlm_loss", "nsp_loss", "grad_norm"):
        assert largest_difference(*curves, name=name) <= 1e-5
    assert [
        line for line in (runs / "whole" / "train.log").read_text().splitlines() if "oneflow was not imported" in line
    ]


def test_a_resumed_run_ends_with_the_bits_of_one_that_was_not_interrupted(runs):
    whole, resumed = saved(runs / "whole"), saved(runs / "resumed")
    assert whole.keys() == resumed.keys() and any(name.startswith("optimizer/exp_avg_sq/") for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name])
    assert metrics(runs / "resumed")[-1]["loss"] == metrics(runs / "whole")[-1]["loss"]


def test_what_it_cannot_do_is_one_line(tmp_path):
    result = subprocess.run(
        command("--output_dir", tmp_path / "run", *TINY, "--nnodes", "1", "--nproc_per_node", "2", **NUMPY),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        cwd=tmp_path,
        timeout=60,
    )
    assert result.returncode == 2 and "the executor 'numpy' has one rank, not 2" in result.stdout
