"""However often a run goes on, it is as if one command had said all that its commands said. No engine."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from checkpoints import record
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.manifest import MANIFEST, _sha256, read_manifest
from pipeloom.core.checkpoint.resume import check_changes
from pipeloom.core.checkpoint.store import Store
from pipeloom.core.commands import request
from pipeloom.core.commands.cli import parse_run
from pipeloom.core.commands.train import _describe_surplus
from pipeloom.core.contract.options import FRESH
from pipeloom.core.launch.job import Job
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.training.run import choose_directory

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
#: The strategy is a third party's, with an option of its own.
PLUGINS = ["--plugins", f"{ROOT / 'examples' / 'my_strategy.py'},bert,wiki_ofrecord"]
#: What a command may say of a run that goes on, and what only its first command does.
LATER = {
    "save_every": [0, 5, 7],
    "keep": [1, 3, 100],
    "log_every": [1, 10],
    "eval_every": [3, "none"],
    "step_timeout": [60.0, 600.0],
    "grad_acc_steps": [1, 4],
    "on_nan": ["skip", "stop"],
    "head_on_node_0": ["true", "false"],
    "max_restarts": [0, 2],
    "async_save": ["false"],
    "best_metric": ["loss", "mlm_accuracy"],
}
FIRST = {"train_steps": [60], "learning_rate": [0.01], "warmup_steps": [7], "seed": [5], "optimizer": ["sgd"]}
LAYOUTS = [
    {},
    {},
    {"nnodes": 1, "nproc_per_node": 1, "nums_split": 1},
    {"nnodes": 2, "nproc_per_node": 1, "nums_split": 2},
]


def said(table):
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in table.items()})


later = st.tuples(
    said(LATER),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["flags", "--set", "file", "its own file"]),
    st.sampled_from(["there", "auto", "elsewhere"]),
    st.booleans(),
)


def command(options, how, folder):
    """The arguments that say ``options``."""
    if how == "flags":
        return [text for name, value in options.items() for text in (f"--{name}", str(value))]
    if how == "--set":
        return [text for name, value in options.items() for text in ("--set", f"{name}={value}")]
    file = folder / f"options-{len(list(folder.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump(dict(options)))
    return ["--config", str(file)]


def planned(arguments, environment=None):
    config, plugins, _ = parse_run(arguments, environment or {})
    return make_plan(config, plugins), plugins


def restarted(arguments, folder):
    """The plan that a rank makes which its launcher has started again, with what it has from it."""
    config, plugins, _ = parse_run(arguments)
    job = Job.of(config, make_plan(config, plugins), str(folder.parent.parent), 0.0, str(folder))
    again = Job.from_environment({"PIPELOOM_JOB": job.to_text()})
    assert again == job
    config, plugins = again.restore()
    return make_plan(config, plugins, decided=again.decided()), plugins


def start(arguments, directory, step, restarts=False):
    """A run's first checkpoint after this command, and with ``restarts`` the next one, after a fault; the last plan."""
    arguments = [*arguments, "--output_dir", str(directory)]
    plan, plugins = planned(arguments)
    again = restarted(arguments, directory / "checkpoints" / "step_0000000") if restarts else None
    folder = record(plan, plugins, directory, step)
    if again is not None:
        plan, plugins = again
        folder = record(plan, plugins, directory, step + 1)
    return folder, plan


def options_of(plan):
    config = plan.config
    return {name: value for name, value in config.to_flat_dict().items() if config.declared[name].resume != FRESH}


@pytest.fixture
def unsynced(monkeypatch):
    """Files outlive a test whether they are on the disk yet or not."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@settings(
    max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=said({**FIRST, **LATER}), layout=st.sampled_from(LAYOUTS), chain=st.lists(later, min_size=1, max_size=3))
def test_a_chain_of_commands_is_one_command(tmp_path, unsynced, first, layout, chain):
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    place.mkdir()
    everything, steps = {**first, **layout}, itertools.count(10, 10)
    folder, _ = start([*PLUGINS, *command(everything, "flags", place)], place / "run", next(steps))
    for number, (options, layout, how, where, restarts) in enumerate(chain):
        options = {**options, **layout}
        arguments = command(options, how if how != "its own file" else "flags", place)
        if how == "its own file":
            arguments += ["--config", str(folder.parent.parent / "config.yaml")]
            everything = {**read_manifest(folder).options(), **everything}
        everything = {**everything, **options}
        directory = folder.parent.parent if where != "elsewhere" else place / f"run-{number}"
        source = {"there": directory, "auto": "auto", "elsewhere": folder}[where]
        folder, plan = start(["--resume", str(source), *arguments], directory, next(steps), restarts)
    found = options_of(plan)
    everything = {name: value for name, value in everything.items() if name in found}
    assert found == options_of(planned([*PLUGINS, *command(everything, "file", place)])[0])
    shutil.rmtree(place)


def as_before(folder, given):
    """Rewrite a manifest as versions did that recorded what the last command said and no other."""
    content = json.loads((folder / MANIFEST).read_text())
    del content["sha256"]
    content.update(format=1, given=given)
    content["config"]["train"]["keep"] = content["config"]["train"]["keep"] or 3  # which was the default
    (folder / MANIFEST).write_text(json.dumps({**content, "sha256": _sha256(content)}))


def test_an_older_checkpoint_that_forgot_what_was_given_goes_on_as_it_was(tmp_path):
    one = {"nnodes": 1, "nproc_per_node": 1, "nums_split": 1, "save_every": 5, "eval_every": 50, "log_every": 10}
    folder, _ = start([*PLUGINS, *command(one, "flags", tmp_path)], tmp_path / "run", 10)
    as_before(folder, ["resume"])
    plan, _ = planned(["--resume", str(folder)])
    assert {**options_of(plan), **one, "keep": None} == options_of(plan)
    as_before(folder, ["keep"])
    assert planned(["--resume", str(folder)])[0].config.keep == 3
    # And from there on it is known.
    folder, _ = start(["--resume", str(folder), "--keep", "9"], tmp_path / "on", 20)
    assert {*one, "keep"} - {"log_every"} <= {*read_manifest(folder).given} and read_manifest(folder).format == 2


def test_another_device_changes_no_default(tmp_path, monkeypatch):
    start(PLUGINS, tmp_path / "run", 10)
    before = read_manifest(tmp_path / "run" / "checkpoints" / "step_0000010").options()
    monkeypatch.setattr(request, "count_gpus", lambda: 4)
    config = parse_run(["--resume", str(tmp_path / "run")])[0]
    for name in ("learning_rate", "train_global_batch_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(config, name) == before[name] != getattr(parse_run(PLUGINS)[0], name), name
    assert config.nnodes is None and config.nproc_per_node is None  # nobody has chosen them: what there is here


STEP = {
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_GPUS_ON_NODE": "4",
}


def test_a_cluster_s_environment_is_a_default_and_no_choice(tmp_path, capsys):
    flags = ["--nproc_per_node", "3", "--nums_split", "1", "--train_global_batch_size", "24"]
    config, plugins, _ = parse_run([*PLUGINS, *flags], STEP)
    assert (config.nnodes, config.nproc_per_node, config.node_rank) == (2, 3, 0)
    record(make_plan(config, plugins), plugins, tmp_path / "run", 10)
    again = ["--resume", str(tmp_path / "run")]
    larger = {**STEP, "SLURM_NNODES": "3", "SLURM_JOB_NODELIST": "n[1-3]"}
    for step, layout in (({}, (None, 3)), (STEP, (2, 3)), (larger, (3, 3))):
        config = parse_run(again, step)[0]
        assert (config.nnodes, config.nproc_per_node) == layout
    assert parse_run([*again, "--nproc_per_node", "4"], larger)[0].nproc_per_node == 4
    assert "--nnodes 3" in capsys.readouterr().out


def test_a_file_may_say_how_a_run_goes_on(tmp_path):
    folder, _ = start([*PLUGINS, "--epochs", "2", "--keep", "4"], tmp_path / "run", 10)
    steps = read_manifest(folder).option("train_steps")
    file = tmp_path / "on.yaml"
    file.write_text(f"train: {{resume: {folder}, keep: none, epochs: none}}\n")
    config = parse_run(["--config", str(file)])[0]
    assert (config.train_steps, config.epochs, config.keep) == (steps, None, None)
    assert parse_run(["--set", f"resume={folder}", "--set", "train.log_every=2"])[0].keep == 4
    # Another strategy stands in the place of the one there was; the other plugins stay.
    config = parse_run(["--resume", str(folder), "--strategy", "intra_first"])[0]
    assert config.plugins == ("bert", "wiki_ofrecord", "intra_first")


def test_a_run_that_began_from_weights_needs_them_no_more(tmp_path):
    weights, _ = start([*PLUGINS, "--num_hidden_layers", "1"], tmp_path / "weights", 10)
    folder, plan = start([*PLUGINS, "--init_from", str(weights)], tmp_path / "run", 10)
    shutil.rmtree(weights)
    again, plugins = planned(["--resume", str(folder)])
    assert again.model.parameters == plan.model.parameters
    said = check_changes(again.config, again, plugins, Checkpoint(folder))
    assert said == [f"changed    init_from {weights} -> {folder}"]


@pytest.mark.parametrize(
    "flags, told",
    [
        (
            [],
            "4 older than the newest 2 (step_0000001 to step_0000004) were there before and stay; "
            "--keep 2 in the command line removes them",
        ),
        (
            ["--keep", "5"],
            "--keep 5: 1 older than the newest 5 (step_0000001) will be removed when the next checkpoint is whole",
        ),
        (["--keep", "6"], None),
        (["--set", "keep=none"], None),
    ],
)
def test_before_it_removes_more_than_it_adds_it_says_so(tmp_path, flags, told):
    plan, plugins = planned([*PLUGINS, "--keep", "2"])
    for step in range(1, 7):
        record(plan, plugins, tmp_path / "run", step)
    config = parse_run(["--resume", str(tmp_path / "run"), *flags])[0]
    said = _describe_surplus(config, Store(tmp_path / "run" / "checkpoints"))
    assert said == ([f"keep       {told}"] if told else [])


def test_a_new_run_does_not_mix_with_checkpoints_that_are_there(tmp_path):
    start(PLUGINS, tmp_path / "run", 10)
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(UsageError, match="already holds a run"):
        choose_directory(str(tmp_path / "run"), ())


def test_what_is_not_there_any_more_is_said(tmp_path):
    folder, _ = start([*PLUGINS, "--head_on_node_0", "false"], tmp_path / "run", 10)
    plan, plugins = planned(["--resume", str(folder), "--strategy", "inter_first"])
    said = check_changes(plan.config, plan, plugins, Checkpoint(folder))
    assert "left out   head_on_node_0 False: no selected plugin has this option now" in said
    content = json.loads((folder / MANIFEST).read_text())
    content["config"]["train"]["on_nan"] = "pray"
    del content["sha256"]
    (folder / MANIFEST).write_text(json.dumps({**content, "sha256": _sha256(content)}))
    told = rf"^the checkpoint {folder}: 'on_nan' must be one of stop, skip, not 'pray': give --on_nan$"
    with pytest.raises(UsageError, match=told):
        parse_run(["--resume", str(folder)])
    assert parse_run(["--resume", str(folder), "--on_nan", "stop"])[0].on_nan == "stop"
