"""RUN@best, RUN@last, RUN@120 and the files that name a checkpoint, wherever one is named."""

from __future__ import annotations

import json

import pytest

from pipeloom.core.base.errors import UsageError, similar_path
from pipeloom.core.checkpoint.naming import CheckpointPath, checkpoint_path
from pipeloom.core.checkpoint.resume import find
from pipeloom.core.commands.cli import main
from pipeloom.core.config.core_options import add_core_options
from pipeloom.core.contract.options import Options
from pipeloom.plugins.libraries.huggingface.source import open_pretrained, vocabulary_of

pytestmark = pytest.mark.fast


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run directory ``run`` with three checkpoints, the best of which is not the last."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run" / "checkpoints"
    for step in (50, 100, 120):
        (folder / f"step_{step:07d}").mkdir(parents=True)
    (folder / "last").write_text("step_0000120\n")
    (folder / "best").write_text(json.dumps({"checkpoint": "step_0000100", "metric": "loss", "value": 1.0}))
    return folder


@pytest.mark.parametrize(
    "text, step",
    [
        ("run@best", 100),
        ("run@last", 120),
        ("run@50", 50),
        ("run@step_0000050", 50),
        ("run@0050", 50),
        ("run/@best", 100),
        ("run/checkpoints@100", 100),
        ("run/checkpoints/best", 100),
        ("run/checkpoints/last", 120),
        ("./run@best", 100),
        ("~/run@best", 100),
        ("~/run/checkpoints/best", 100),
    ],
)
def test_a_checkpoint_by_its_run(run, monkeypatch, text, step):
    monkeypatch.setenv("HOME", str(run.parent.parent))
    assert checkpoint_path(text).resolve() == run / f"step_{step:07d}"


@pytest.mark.parametrize(
    "text, says",
    [
        ("run@60", "there is no checkpoint step_0000060; the run has those of the steps 50, 100, 120"),
        ("rum@best", "there is no run directory rum (did you mean 'run'?)"),
        (
            "run/checkpoints/step_0000050@best",
            "run/checkpoints/step_0000050 is not a run directory, it has no folder 'checkpoints'",
        ),
    ],
)
def test_what_is_not_there(run, text, says):
    with pytest.raises(UsageError) as raised:
        checkpoint_path(text)
    assert str(raised.value) == f"{text}: {says}"


def test_any_other_text_is_a_path(run):
    for text in ("run", "run/checkpoints", "run@bestt", "user@host/run", "@best", "run/best"):
        assert str(checkpoint_path(text)) == text
    (run.parent.parent / "run@best").mkdir()  # a folder that is there is what it says
    assert str(checkpoint_path("run@best")) == "run@best"


def test_pointers_that_are_lost_or_wrong(run):
    for content in ("", "step_0000999\n", "../..\n", "\x00"):
        (run / "last").write_text(content)
        assert checkpoint_path("run@last").name == "step_0000120"
    for content in (
        "",
        "[]",
        '{"checkpoint": "../../x", "metric": "loss", "value": 1}',
        '{"checkpoint": "step_0000999", "metric": "loss", "value": 1}',
    ):
        (run / "best").write_text(content)
        with pytest.raises(
            UsageError,
            match="^run@best: (no checkpoint is the best, since none was evaluated|there "
            "is no checkpoint (step|..)).*50, 100, 120$",
        ):
            checkpoint_path("run@best")
    for folder in run.glob("step_*"):
        folder.rmdir()
    with pytest.raises(UsageError, match="^run/checkpoints/last: there is no checkpoint in run/checkpoints$"):
        checkpoint_path("run/checkpoints/last")


def test_every_place_that_takes_a_checkpoint_takes_its_names(run, capsys):
    for action in (
        lambda: find("run@60", None, ()),
        lambda: open_pretrained("run@60", "--checkpoint"),
        lambda: vocabulary_of("run@60"),
    ):
        with pytest.raises(UsageError, match="run@60: there is no checkpoint step_0000060"):
            action()
    with pytest.raises(UsageError, match="^--resume run/checkpoints/step_0000100: not a checkpoint"):  # it is empty
        find("run@best", None, ())
    with pytest.raises(UsageError, match="^--checkpoint run/checkpoints/step_0000100: config.json: No such file"):
        open_pretrained("run@best", "--checkpoint")
    for command in ("ls", "show", "verify"):
        assert main(["checkpoint", command, "run@60"]) == 2
    assert main(["checkpoint", "verify", "run@best"]) == 2
    assert capsys.readouterr().err.count("run@60: there is no checkpoint step_0000060") == 3


def test_an_option_keeps_what_a_name_means_today(run):
    options = Options()
    add_core_options(options)
    options.add("start", CheckpointPath, None, help="")
    start = options.get("start")
    assert start.parse("run@best", "--start") == "run/checkpoints/step_0000100"
    assert start.parse("./run", "--start") == "./run"
    for where, says in (("--start", "--start run@7: "), ("--config x.yaml", "--config x.yaml: start run@7: ")):
        with pytest.raises(UsageError, match=f"^{says}there is no checkpoint step_0000007"):
            start.parse("run@7", where)


def test_a_name_is_never_suggested_for_itself(run):
    assert similar_path(run / "last") == "" and similar_path(run / "lasst") == " (did you mean 'last'?)"
    assert similar_path(run / "none" / "last") == ""
