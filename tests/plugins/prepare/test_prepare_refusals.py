"""What ``prepare pretraining`` does not do: one line, and nothing lost on the disk."""

from __future__ import annotations

import json
import os
import re

import pytest
from preparations import HERE, arguments, digest

from pipeloom.core.commands.cli import main
from pipeloom.plugins.libraries.preparation import output_folder

pytestmark = pytest.mark.fast


def test_an_output_of_other_settings_is_left_alone(texts, tmp_path, capsys):
    out = tmp_path / "out"
    command = arguments(texts, out, "--dupe_factor", "1")
    assert main(command) == 0
    before = digest(out)
    capsys.readouterr()
    assert main(command) == 0 and "is there already" in capsys.readouterr().out
    for more, says in (
        (["--seed", "3"], "made with --seed 1, here it is 3; give another folder, or --overwrite true"),
        (["--lowercase", "false"], "made with --lowercase True, here it is False"),
    ):
        assert main([*command, *more]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1 and digest(out) == before
    assert (
        main(arguments(texts, out, "--dupe_factor", "1", inputs=("a.jsonl",))) == 2
        and "another --input" in capsys.readouterr().err
    )
    assert main([*command, "--seed", "3", "--overwrite", "true"]) == 0
    assert json.loads((out / "meta.json").read_text())["settings"]["seed"] == 3
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("")
    assert (
        main(arguments(texts, foreign, "--overwrite", "true")) == 2
        and "was not made by 'prepare'" in capsys.readouterr().err
    )


def test_one_at_a_time(texts, tmp_path, capsys):
    with output_folder.OutputFolder(tmp_path / "out", {}, False):
        assert main(arguments(texts, tmp_path / "out")) == 2
    assert "is being made by another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, more, says",
    [
        ("", [], "no document with text in .*x.txt .left out: 1 empty files"),
        ("A short text.", [], "left out: 1 documents shorter than --min_characters"),
        (
            "A text that is long enough for it to be a document of its own.",
            [],
            "has one document, .* --text_documents blank_lines",
        ),
        (
            "A text that is long enough.\n\nAnother of them, it goes on.\n",
            ["--text_documents", "blank_lines", "--min_characters", "1", "--parts", "99"],
            "samples, fewer than --parts 99",
        ),
        ("text", ["--seq_length", "4"], "--seq_length: must be a whole number of at least 5, not '4'"),
        ("text", ["--masked_lm_prob", "2"], "--masked_lm_prob: must be a number from 0 to 1, not '2'"),
        ("text", ["--language", "English"], "--language: must be a code like en or de, not 'English'"),
        ("text", ["--vocab", "nowhere.txt"], "cannot read the vocabulary nowhere.txt"),
        ("text", ["--output", "/proc/pipeloom/out"], "--output /proc/pipeloom/out cannot be made"),
        ("text", ["--dupes", "1"], "no option '--dupes'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(texts, tmp_path, capsys, content, more, says):
    (tmp_path / "x.txt").write_text(content)
    command = [
        "prepare",
        "pretraining",
        "--input",
        str(tmp_path / "x.txt"),
        "--vocab",
        str(texts / "vocab.txt"),
        "--output",
        str(tmp_path / "out"),
        *HERE,
        *more,
    ]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert re.search(says, error) and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_damaged_input_keeps_what_was_done(texts, tmp_path, capsys):
    """The error says --bad_input skip, and that goes on with what was begun."""
    (tmp_path / "a.jsonl").write_text((texts / "a.jsonl").read_text() + "nonsense\n")
    (tmp_path / "vocab.txt").write_bytes((texts / "vocab.txt").read_bytes())
    command = arguments(tmp_path, tmp_path / "out", inputs=("a.jsonl",))
    assert main(command) == 1
    assert "line 10: is no JSON object" in capsys.readouterr().err
    assert main([*command, "--bad_input", "skip"]) == 0
    said = capsys.readouterr()
    assert "going on with" in said.err and "1 lines that are no JSON object" in said.out


def test_a_full_disk_is_one_line(texts, tmp_path, monkeypatch, capsys):
    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(arguments(texts, tmp_path / "out")) == 1
    error = capsys.readouterr().err
    assert "No space left on device; the same command goes on from here" in error and error.count("\n") == 1
    assert main(arguments(texts, tmp_path / "out")) == 0


@pytest.mark.parametrize("kind", ["pretraining", "vocab"])
def test_without_the_libraries_that_read_text_it_is_one_line(texts, tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    flags = ["--vocab", str(texts / "vocab.txt")] if kind == "pretraining" else ["--vocab_size", "600"]
    code = main(["prepare", kind, "--input", str(texts / "*.txt"), *flags, "--output", str(tmp_path / "out")])
    assert code == 2 and capsys.readouterr().err == (
        "pipeloom: error: reading text needs mwparserfromhell and sentencex, not installed here: pip install "
        "'pipeloom[prepare]' (in a checkout: ./run_ppl.sh, or pip install -e '.[prepare]')\n"
    )
