"""Runs that are interrupted and go on, with real ranks: the same curve, in the same layout to the bit, in any other to
rounding.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from jobs import NO_LAYERS, ROOT, TINY, Training, command, environment, largest_difference, metrics, train

from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.manifest import read_manifest
from pipeloom.core.contract.blocks import ParameterSpec

STEPS = 12
#: PP2 x DP2 with dropout, a tied table, a warmup and a decay, so that everything that has a position moves.
FLAGS = [*TINY, "--num_attention_heads", "2", "--hidden_size", "64", "--train_steps", str(STEPS), "--warmup_steps", "4"]
#: To rounding: 1e-4 is allowed over 20 steps, these few differ by some 1e-6 (docs/parity.md).
TOLERANCE = 1e-5


def resume(source, directory, *flags):
    result = subprocess.run(
        [sys.executable, str(ROOT / "entry.py"), "--resume", str(source), "--output_dir", str(directory), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        env=environment(),
        cwd=directory.parent,
    )
    assert result.returncode == 0, result.stdout
    return metrics(directory), result.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A whole run, and one that stopped after 6 steps, whose checkpoints at 3 and 6 were written in the background."""
    folder = tmp_path_factory.mktemp("resume")
    whole = Training(folder / "whole", *FLAGS, "--save_every", "0")
    train(folder / "half", *FLAGS, "--save_every", "3", "--stop_at", "6")
    return folder, whole.curve()


def test_a_run_without_checkpoints_leaves_none(runs):
    assert not (runs[0] / "whole" / "checkpoints").exists()


def test_stop_at_ends_with_a_checkpoint_and_the_schedule_of_the_whole_run(runs):
    folder, whole = runs
    half = metrics(folder / "half")
    assert [entry["step"] for entry in half] == list(range(1, 7))
    assert [(entry["loss"], entry["lr"]) for entry in half] == [(entry["loss"], entry["lr"]) for entry in whole[:6]]
    assert sorted(path.name for path in (folder / "half" / "checkpoints").iterdir()) == [
        "last",
        "step_0000003",
        "step_0000006",
    ]
    assert "stopped after step 6 of 12" in (folder / "half" / "train.log").read_text()
    manifest = read_manifest(folder / "half" / "checkpoints" / "step_0000006")
    assert manifest.position["samples"] == 96 and manifest.layout["mesh"] == {"pipeline": 2, "data": 2, "tensor": 1}


def test_a_checkpoint_taken_amid_training_continues_to_the_bit(runs):
    """That of step 3 was written while steps 4 and 5 were made: it must be a copy of its moment."""
    folder, whole = runs
    curve, said = resume(folder / "half" / "checkpoints" / "step_0000003", folder / "again", "--save_every", "5")
    assert [entry["step"] for entry in curve] == list(range(4, STEPS + 1))
    for name in ("loss", "mlm_loss", "nsp_loss", "lr", "grad_norm"):
        assert [entry[name] for entry in curve] == [entry[name] for entry in whole[3:]], name
    assert "step_0000003: step 3 of 12, 48 samples" in said and "weights    all from" in said
    # In its own directory a run goes on with its own log, each step once.
    assert "saved      step_0000012" in said


#: Layouts to go on in; what they need beside the checkpoint.
LAYOUTS = {
    "one process": ["--nnodes", "1", "--nproc_per_node", "1", "--nums_split", "1", "--grad_acc_steps", "1"],
    "TP2": ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1", "--tensor_parallel", "2"],
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_another_layout_continues_the_same_curve(runs, layout):
    folder, whole = runs
    directory = folder / layout.replace(" ", "_").replace(",", "")
    curve, said = resume(folder / "half" / "checkpoints" / "step_0000006", directory, *LAYOUTS[layout])
    assert [entry["step"] for entry in curve] == list(range(7, STEPS + 1))
    assert largest_difference(curve, whole[6:]) < TOLERANCE
    assert "changed    layout 2x2x1 -> " in said
    # And what it saves is again what any layout can read: the parameters whole, without what filled them up.
    one, two = (Checkpoint(folder / name / "checkpoints" / "step_0000012") for name in ("again", directory.name))
    assert one.manifest.parameters == two.manifest.parameters and two.manifest.optimizer_kinds == [
        "exp_avg",
        "exp_avg_sq",
    ]
    for name, shape in one.manifest.parameters.items():
        spec = ParameterSpec(name, tuple(shape))
        assert abs(one.parameter(spec) - two.parameter(spec)).max() < TOLERANCE
        assert abs(one.optimizer("exp_avg", spec) - two.optimizer("exp_avg", spec)).max() < TOLERANCE


def test_from_a_sharded_layout_with_an_optimizer_between_the_steps(tmp_path):
    """LAMB keeps its state outside of the graph; the masters of --shard optimizer are the parameters."""
    flags = [*FLAGS, "--optimizer", "lamb", "--nnodes", "1", "--nproc_per_node", "2"]
    whole = Training(tmp_path / "whole", *flags, "--nums_split", "2", "--save_every", "0", model=NO_LAYERS)
    train(tmp_path / "half", *flags, "--nums_split", "1", "--shard", "optimizer", "--stop_at", "6", model=NO_LAYERS)
    curve, _ = resume(tmp_path / "half", tmp_path / "rest", "--nums_split", "2", "--shard", "none")
    assert largest_difference(curve, whole.curve()[6:]) < TOLERANCE


def test_a_run_goes_on_in_its_own_directory(runs):
    """Its log has each step once, and TensorBoard shows no step twice."""
    folder, whole = runs
    directory = folder / "half"
    with open(directory / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 7, "loss": 99.0}) + "\n" + '{"step": 8, "lo')  # of a run that was killed
    curve, said = resume("auto", directory, "--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "2")
    assert [entry["step"] for entry in curve] == list(range(1, STEPS + 1))
    assert largest_difference(curve, whole) < TOLERANCE
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tb"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1))


def test_nothing_is_left_to_do(runs):
    folder, _ = runs
    result = subprocess.run(
        command("--resume", folder / "again"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env=environment(),
        cwd=folder,
    )
    assert result.returncode == 2 and "has done step 12 of --train_steps 12: nothing is left to do" in result.stdout
