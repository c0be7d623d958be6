"""``--resume``: which checkpoint it means, what comes from it, and what must not have changed. No engine."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from resumed_runs import FLAGS, PLUGINS, resume, write

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.output import append_to_log
from pipeloom.core.checkpoint.manifest import MANIFEST
from pipeloom.core.checkpoint.resume import find
from pipeloom.core.commands.cli import main, parse_run
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.training.run import Run, choose_directory, held


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run directory whose checkpoints have a manifest and no tensors."""
    directory = tmp_path_factory.mktemp("made") / "run"
    write(directory, 10, *FLAGS)
    return directory


def test_what_is_not_given_is_as_it_was(made):
    config, said = resume(made)
    assert (config.learning_rate, config.train_steps, config.num_attention_heads, config.grad_acc_steps) == (
        0.01,
        50,
        2,
        2,
    )
    assert config.plugins == ("inter_first", "bert", "wiki_ofrecord") and said == []
    # Options that were left to their defaults are still left to them: another cluster has another default.
    assert config.nnodes is None and config.nums_split is None and "learning_rate" not in config.given


def test_a_share_of_warmup_is_what_it_was(made, tmp_path):
    """Said again it is the same; said otherwise it is other mathematics."""
    config, said = resume(made, "--warmup_ratio", "0.1")  # what a tenth of 50 steps was
    plugins = parse_run(["--resume", str(made), "--warmup_ratio", "0.1"])[1]
    assert said == [] and make_plan(config, plugins).config.warmup_steps == 5
    with pytest.raises(UsageError, match=r"made with other mathematics \(warmup_steps 5 -> 10\)"):
        resume(made, "--warmup_ratio", "0.2")
    directory = tmp_path / "run"
    write(directory, 10, *FLAGS, "--warmup_ratio", "0.2")
    config, said = resume(directory)
    assert (config.warmup_steps, config.warmup_ratio, said) == (10, None, [])
    assert resume(directory, "--warmup_steps", "10")[1] == []


def test_a_layout_may_change_and_is_listed(made):
    config, said = resume(
        made,
        "--nnodes",
        "1",
        "--nproc_per_node",
        "4",
        "--tensor_parallel",
        "2",
        "--shard",
        "optimizer",
        "--grad_acc_steps",
        "4",
    )
    assert [line.split()[1] for line in said] == [
        "nnodes",
        "nproc_per_node",
        "tensor_parallel",
        "grad_acc_steps",
        "shard",
        "layout",
    ]
    assert (
        "changed    layout 2x2x1 -> 2x1x2 (pipeline x data x tensor)" in said
        and "changed    grad_acc_steps 2 -> 4" in said
    )


@pytest.mark.parametrize(
    "flags, name",
    [
        (["--learning_rate", "0.02"], "learning_rate"),
        (["--seed", "7"], "seed"),
        (["--train_steps", "60"], "train_steps"),
        (["--train_global_batch_size", "64"], "train_global_batch_size"),
        (["--hidden_dropout_prob", "0.2"], "hidden_dropout_prob"),
        (["--optimizer", "sgd"], "optimizer"),
        (["--shuffle", "false"], "shuffle"),
        (["--epochs", "1"], "train_steps"),
    ],
)
def test_other_mathematics_is_refused_unless_allowed(made, flags, name):
    with pytest.raises(
        UsageError, match=rf"made with other mathematics \(.*{name} .* -> .*\): .* --resume_allow .*{name}"
    ):
        resume(made, *flags)
    names = "train_steps,warmup_steps,train_global_batch_size"
    assert any(f" {name} " in line for line in resume(made, *flags, "--resume_allow", f"{name},{names}")[1])


def test_the_file_of_a_run_does_not_repeat_how_it_began(made):
    config, _ = resume(made, "--stop_at", "20", "--resume_allow", "seed")
    assert config.resume is not None and config.stop_at == 20
    written = config.to_dict()["train"]
    assert (written["resume"], written["resume_allow"], written["stop_at"]) == (None, None, None)


def test_a_misspelt_permission_is_refused(made):
    with pytest.raises(
        UsageError, match=r"--resume_allow learning_rat: there is no such option \(did you mean 'learning_rate'\?\)"
    ):
        resume(made, "--resume_allow", "learning_rat")
    with pytest.raises(UsageError, match="give --resume too"):
        parse_run([*PLUGINS, "--resume_allow", "seed"])


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--num_hidden_layers", "3"], r"has no parameter 'bert.encoder.layer.2.*'"),
        (["--num_hidden_layers", "1"], r"has a parameter 'bert.encoder.layer.1.*', which this model has not"),
        (["--hidden_size", "32"], r"has the shape \[.*\], here it has \[.*\]"),
    ],
)
def test_a_checkpoint_of_another_model(made, flags, told):
    with pytest.raises(UsageError, match=r"is of another model \(bert for pretraining, 0.4 M parameters\): .*" + told):
        resume(made, *flags)


def test_other_data_is_other_mathematics(tmp_path):
    folder = write(tmp_path / "run", 3, *FLAGS, data="0123456789abcdef")
    with pytest.raises(UsageError, match="data 01234567 -> "):
        resume(folder)
    assert resume(folder, "--resume_allow", "data")[1][0].startswith("changed    data 01234567 -> ")


def test_another_optimizer_plugin_is_other_mathematics(tmp_path):
    folder = write(
        tmp_path / "run", 3, *FLAGS, answers={"model": "bert", "dataset": "wiki_ofrecord", "optimizer": "./mine.py"}
    )
    with pytest.raises(
        UsageError, match="optimizer_plugin ./mine.py -> optimization; schedule_plugin None -> lr_schedules"
    ):
        resume(folder)


def test_auto_takes_the_newest_whole_one(tmp_path):
    run = tmp_path / "run"
    assert find("auto", str(run), ()).path is None
    good, bad = write(run, 10, *FLAGS), write(run, 20, *FLAGS)
    (bad / MANIFEST).write_text("{")
    found = find("auto", str(run), ())
    assert (
        found.path == good
        and found.directory == run
        and len(found.notes) == 1
        and "step_0000020: checkpoint.json is damaged" in found.notes[0]
    )
    # Named, it is not passed over in silence.
    with pytest.raises(UsageError, match="step_0000020: checkpoint.json is damaged .* --resume auto"):
        find(str(bad), None, ())
    assert find(str(run), None, ()).path == good
    (good / MANIFEST).unlink()
    assert "starting from the beginning" in find("auto", str(run), ()).notes[-1]
    with pytest.raises(UsageError, match="no whole checkpoint"):
        find(str(run), None, ())


def test_auto_without_a_directory_takes_the_last_run_with_these_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no run with these plugins" in find("auto", None, ["inter_first", "bert"]).notes[0]
    for number, name in enumerate(
        ["20260101-000000-inter_first-bert", "20260101-000000-inter_first-bert-2", "20260101-000000-intra_first-bert"]
    ):
        folder = write(tmp_path / "runs" / name, 5, *FLAGS)
        os.utime(folder, (time.time() + number,) * 2)
    assert find("auto", None, ["inter_first", "bert"]).directory.name == "20260101-000000-inter_first-bert-2"
    assert find("auto", None, ["intra_first", "bert"]).directory.name == "20260101-000000-intra_first-bert"


def test_an_older_checkpoint_goes_on_in_another_directory_alone(tmp_path):
    older, _ = write(tmp_path / "run", 10, *FLAGS), write(tmp_path / "run", 20, *FLAGS)
    with pytest.raises(UsageError, match=r"later checkpoints \(step_0000020\); give another --output_dir"):
        find(str(older), None, ())
    found = find(str(older), str(tmp_path / "other"), ())
    assert found.path == older and found.directory is None
    assert choose_directory(str(tmp_path / "other"), (), found) == tmp_path / "other"


def test_a_run_goes_on_in_its_own_directory(tmp_path):
    folder = write(tmp_path / "run", 10, *FLAGS)
    assert choose_directory(None, (), find(str(folder), None, ())) == tmp_path / "run"
    with pytest.raises(UsageError, match="already holds a run: .* --resume auto"):
        choose_directory(str(tmp_path / "run"), ())
    # A run that ended before its first checkpoint.
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert choose_directory(str(tmp_path / "run"), (), find("auto", str(tmp_path / "run"), ())) == tmp_path / "run"


def test_a_full_disk_costs_a_log_its_lines_and_not_the_run(made, tmp_path, capsys):
    for _ in range(2):
        append_to_log(Path("/dev/full"), "line\n")
    assert capsys.readouterr().out == "NOT LOGGED full: No space left on device; training goes on\n"
    append_to_log(tmp_path / "log", "a\ud800\n")
    assert (tmp_path / "log").read_text() == "a\\ud800\n"
    config, plugins, _ = parse_run(["--resume", str(made)])
    with pytest.raises(RunError, match="cannot write into .*: Not a directory"):
        Run(make_plan(config, plugins), plugins, Path("/dev/full"), 0).open()


def test_two_runs_do_not_write_into_one_directory(tmp_path):
    with held(tmp_path):
        with pytest.raises(UsageError, match="another run is writing there at this moment"):
            with held(tmp_path):
                raise AssertionError
    with held(tmp_path):
        pass


def test_what_is_no_checkpoint(tmp_path):
    (tmp_path / "step_0000010").mkdir()
    with pytest.raises(
        UsageError, match=r"step_0000011: not a checkpoint, nor a run directory \(did you mean 'step_0000010'\?\)"
    ):
        find(str(tmp_path / "step_0000011"), None, ())


def test_the_checkpoint_command(made, capsys):
    assert main(["checkpoint", "ls", str(made)]) == 0
    assert "step_0000010  0.0 MB" in capsys.readouterr().out
    assert main(["checkpoint", "verify", str(made)]) == 0
    assert "whole (0 files" in capsys.readouterr().out
    assert main(["checkpoint", "show", str(made / "checkpoints" / "step_0000010")]) == 0
    shown = capsys.readouterr().out
    assert (
        "step       10 of 50; 320 samples" in shown
        and "bert.pooler.dense.weight [64, 64]" in shown
        and "learning_rate: 0.01" in shown
    )
    for arguments, told in (
        (["lst", "x"], "did you mean 'ls'"),
        (["ls"], "takes one path"),
        ([], "needs one of"),
        (["ls", "/nowhere"], "no checkpoint"),
    ):
        assert main(["checkpoint", *arguments]) == 2
        assert told in capsys.readouterr().err


def test_the_checkpoint_command_on_a_damaged_one(tmp_path, capsys):
    folder = write(tmp_path / "run", 10, *FLAGS)
    (folder / MANIFEST).write_text("{}")
    assert (
        main(["checkpoint", "verify", str(folder)]) == 1
        and "NOT WHOLE: checkpoint.json is damaged" in capsys.readouterr().out
    )
    assert main(["checkpoint", "ls", str(tmp_path / "run")]) == 0 and "NOT WHOLE" in capsys.readouterr().out
    assert main(["checkpoint", "show", str(folder)]) == 2 and "is damaged" in capsys.readouterr().err
