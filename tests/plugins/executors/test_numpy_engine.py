"""A second executor under the same trainer: the contract is all that models, tasks, trainer and checkpoints know."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from jobs import ONE_PROCESS, ROOT, TINY, Training, command, environment, largest_difference, metrics, train

from pipeloom.core.checkpoint import tensors
from pipeloom.core.checkpoint.manifest import read_manifest, tensor_files
from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.planner import make_plan

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


ADDS = """
import dataclasses
import numpy as np
import pipeloom
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.sample_fields import SampleField

def training(seed, step, indices):
    return (seed + step + indices[:, None]).astype(np.float32)

@pipeloom.hookimpl
def pipeloom_sample_fields(config):
    evaluated = lambda indices: indices[:, None].astype(np.float32)
    return [SampleField(Field("extra", (1,), "float32"), training, evaluated)]

@pipeloom.hookimpl(hookwrapper=True)
def pipeloom_build_model(config, task):
    result = yield
    model = result.get_result()
    head = model.blocks[-1]

    def build(scope):
        block = head.build(scope)

        def call(hidden, fields):
            results = block(hidden, fields)
            return {**results, "nsp_loss": results["nsp_loss"] + (fields["extra"] * fields[SAMPLE_WEIGHT]).sum()}

        call.word = block.word  # the part that the first block borrows
        return call

    changed = dataclasses.replace(head, inputs=(*head.inputs, "extra"), build=build)
    result.force_result(dataclasses.replace(model, blocks=(*model.blocks[:-1], changed)))
"""


def test_a_field_that_a_plugin_adds_reaches_the_blocks(runs, tmp_path):
    """It is added to a loss as a constant, so the loss is that of the run without it plus the mean of the field."""
    plugin = tmp_path / "adds.py"
    plugin.write_text(ADDS)
    train(tmp_path / "run", *FLAGS, data=f"{NUMPY['data']},{plugin}")
    plan = make_plan(*parse(["--plugins", f"inter_first,bert,{NUMPY['data']}", *FLAGS]))
    without = metrics(runs / "whole")
    for step, line in enumerate(metrics(tmp_path / "run")):
        extra = plan.config.seed + step + plan.order().indices(step).mean()
        assert line["nsp_loss"] - without[step]["nsp_loss"] == pytest.approx(extra, rel=1e-6)
    held_out = [json.loads((run / "evaluation.jsonl").read_text()) for run in (tmp_path / "run", runs / "whole")]
    assert held_out[0]["nsp_loss"] - held_out[1]["nsp_loss"] == pytest.approx(np.arange(20).mean(), rel=1e-6)
