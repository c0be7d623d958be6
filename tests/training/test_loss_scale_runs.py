"""Runs whose gradients overflow: all ranks leave out the same steps, and a resumed run goes on with the same scale."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from jobs import NO_LAYERS, ROOT, TINY, Training, environment, metrics

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.checkpoint.manifest import Position, read_manifest
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.executor import TrainingState
from pipeloom.core.contract.loss_scale import LossScaleRule
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.training.scaling import LossScaling, rule_of

FLAGS = [*TINY, "--train_steps", "8", "--nnodes", "1", "--save_every", "3"]
SCALE = ["--loss_scale", "dynamic", "--initial_loss_scale", "1e19", "--loss_scale_window", "4"]
PP2 = ["--nproc_per_node", "2", "--nums_split", "2"]
DP2 = ["--nproc_per_node", "2", "--nums_split", "1"]  # with as many micro-batches


def numbers(curve):
    return [{name: entry[name] for name in ("step", "loss", "lr", "grad_norm", "loss_scale")} for entry in curve]


def resume(source, directory, *flags):
    done = subprocess.run(
        [sys.executable, str(ROOT / "entry.py"), "--resume", str(source), "--output_dir", str(directory), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        env=environment(),
        cwd=source.parent,
    )
    assert done.returncode == 0, done.stdout
    return numbers(metrics(directory))


def test_a_pipeline_leaves_out_what_overflows_and_goes_on_in_another_layout(tmp_path):
    whole = Training(tmp_path / "whole", *FLAGS, *PP2, *SCALE, model=NO_LAYERS)
    curve, said = numbers(whole.curve()), whole.said()
    checkpoints = tmp_path / "whole" / "checkpoints"
    half, end = (read_manifest(checkpoints / f"step_000000{step}").position for step in (3, 8))
    # In the beginning, and once more when it has grown; each takes a batch, and no step of the schedule.
    assert 0 < half["overflows"] < end["overflows"] == said.count("overflow   a gradient is not finite at step ")
    assert end["step"] == 8 and end["data_step"] == 8 + end["overflows"] and end["skipped"] == 0
    assert [entry["step"] for entry in curve] == list(range(1, 9))
    assert [entry["lr"] for entry in curve] == pytest.approx([1e-3 * (1 - step / 8) for step in range(8)])
    other = resume(checkpoints / "step_0000003", tmp_path / "other", *DP2, "--save_every", "8")
    assert [entry["loss_scale"] for entry in other] == [entry["loss_scale"] for entry in curve[3:]]
    for mine, theirs in zip(other, curve[3:]):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
    there = read_manifest(tmp_path / "other" / "checkpoints" / "step_0000008").position
    assert (there["loss_scale"], there["overflows"]) == (end["loss_scale"], end["overflows"])


@pytest.mark.fast
def test_what_no_scale_helps_ends_the_run():
    """A gradient that is never finite: the scale falls to 1, and then there is no use in going on."""
    rule, said, position = LossScaleRule(8.0), [], Position()
    scales = [rule.first()]
    state = SimpleNamespace(loss_scale=lambda: scales[-1])
    scaling = LossScaling(
        SimpleNamespace(loss_scale="dynamic", initial_loss_scale=8.0, loss_scale_window=2000), said.append
    )
    scaling.begin(state, position)
    for scale in (4, 2):
        scales.append(rule.after(scales[-1], False))
        assert scaling.left_out(state, position, 1) and position.loss_scale == {"scale": scale, "good_steps": 0}
    scales.append(rule.after(scales[-1], True))
    assert not scaling.left_out(state, position, 1) and position.overflows == len(said) == 2
    scales.append(rule.after(scales[-1], False))
    with pytest.raises(RunError, match="at step 2, with a loss scale of 2: it is not the loss scale's fault"):
        scaling.left_out(state, position, 2)


@pytest.mark.fast
def test_an_executor_without_one_says_so():
    config = SimpleNamespace(loss_scale="dynamic", initial_loss_scale=8.0, loss_scale_window=2000)
    with pytest.raises(UsageError, match="this executor has no dynamic loss scale"):
        LossScaling(config, print).begin(TrainingState(), Position())


@pytest.mark.fast
def test_the_options_of_the_scale():
    plugins = ["--plugins", "inter_first,bert,wiki_ofrecord"]
    config, selected = parse([*plugins, "--loss_scale", "dynamic", "--loss_scale_window", "7"])
    rule = rule_of(make_plan(config, selected).config)
    assert (rule.initial, rule.interval) == (65536, 7)
    config, selected = parse([*plugins, "--loss_scale", "512"])
    assert rule_of(make_plan(config, selected).config) is None
    config, selected = parse([*plugins, "--loss_scale", "512", "--loss_scale_window", "7"])
    with pytest.raises(UsageError, match="--loss_scale_window 7 has no effect on a static loss scale"):
        make_plan(config, selected)
