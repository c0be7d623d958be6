"""Printing on consoles that do not know every character, into what is full, and to readers who go away."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.output import ESCAPE, printing, survive_closed_output
from pipeloom.core.commands.cli import main
from pipeloom.core.training.run import choose_directory

pytestmark = pytest.mark.fast

#: Within latin-1, within U+FFFF, beyond it, and half of that.
TEXT = "Grüße 北京 \U0001f600 \ud83d."


def printed(monkeypatch, encoding, body):
    """The bytes that ``body`` prints on a console of this encoding, and the exit code."""
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    code = printing(body)
    assert sys.stdout is console
    return console.buffer.getvalue(), code


@pytest.mark.parametrize(
    "encoding, expected",
    [
        ("ascii", b"Gr\\u00fc\\u00dfe \\u5317\\u4eac \\ud83d\\ude00 \\ud83d.\n"),
        ("latin-1", b"Gr\xfc\xdfe \\u5317\\u4eac \\ud83d\\ude00 \\ud83d.\n"),
        ("utf-8", "Grüße 北京 \U0001f600 \\ud83d.\n".encode()),
        ("utf-16", "Grüße 北京 \U0001f600 \\ud83d.\n".encode("utf-16")),
    ],
)
def test_what_a_console_does_not_know_is_escaped(monkeypatch, encoding, expected):
    assert printed(monkeypatch, encoding, lambda: print(TEXT) or 0) == (expected, 0)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_stays_what_it_says(monkeypatch, encoding):
    found, _ = printed(monkeypatch, encoding, lambda: print(json.dumps({"answer": TEXT}, ensure_ascii=False)) or 0)
    assert json.loads(found.decode(encoding)) == {"answer": TEXT}
    assert json.loads(json.dumps(TEXT, ensure_ascii=False).encode("utf-8", ESCAPE)) == TEXT


def test_only_what_is_written_is_escaped():
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", ESCAPE)


class Full(io.RawIOBase):
    """A device without room; or, of another error, a reader who has gone."""

    def __init__(self, number=errno.ENOSPC):
        self.number, self.written = number, 0

    def writable(self):
        return True

    def write(self, data):
        self.written += len(data)
        raise OSError(self.number, "No room")

    def fileno(self):
        return self.file.fileno()


@pytest.fixture(params=[True, False], ids=["unbuffered", "buffered"])
def full(request, monkeypatch, tmp_path):
    """Puts such a device in the place of a stream, which a program writes at once or at its end."""

    def put(name, number=errno.ENOSPC):
        device = Full(number)
        device.file = open(tmp_path / "file", "wb")
        stream = io.TextIOWrapper(device if request.param else io.BufferedWriter(device), write_through=request.param)
        monkeypatch.setattr(sys, name, stream)
        return device

    return put


@pytest.mark.parametrize("command", [["plugins"], ["--help"], ["prepare", "inspect", "--help"], ["doctor", "--help"]])
def test_a_full_device_costs_one_line(full, capsys, command):
    full("stdout")
    assert main(command) == 1
    assert capsys.readouterr().err == "pipeloom: error: standard output cannot be written: No room\n"


def test_a_reader_who_has_gone_costs_none(full, capsys):
    full("stdout", errno.EPIPE)
    assert main(["plugins"]) == 1
    assert capsys.readouterr().err == ""


def test_what_went_wrong_is_told_though_nobody_takes_the_output(full, capsys):
    full("stdout")
    assert main(["plugin"]) == 2
    assert capsys.readouterr().err.startswith("pipeloom: error: no command 'plugin'")


def test_a_command_does_not_end_of_what_stderr_cannot_take(full, capsys):
    device = full("stderr")

    def body():
        for _ in range(3):
            print("progress", file=sys.stderr, flush=True)
        print("result")
        return 0

    assert printing(body) == 0 and device.written > 0
    full("stderr")
    assert main(["plugin"]) == 2
    assert capsys.readouterr().out == "result\n"


def test_a_training_goes_on_when_its_console_is_full(full):
    full("stdout")

    def body():
        survive_closed_output()
        print("step 1", flush=True)
        print("step 2")
        return 0

    assert printing(body) == 0


def test_names_of_files_that_are_no_text(monkeypatch, tmp_path, capsys):
    """Prepared from such files, all is written; a run is not begun in such a folder, since TensorBoard's files could
    not be.
    """
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    monkeypatch.chdir(folder)
    for number in "12":
        text = f"Some words of document {number} are here for the sake of words. " * 9
        Path(os.fsdecode(b"\xfe") + number).write_text(text)
    assert main(["prepare", "vocab", "--input", "*", "--output", "words", "--vocab_size", "60"]) == 0
    command = [
        "prepare",
        "pretraining",
        "--input",
        os.fsdecode(b"\xfe*"),
        "--vocab",
        "words/vocab.txt",
        "--output",
        "data",
    ]
    assert main([*command, "--seq_length", "32", "--min_characters", "1", "--workers", "1"]) == 0
    assert "\\udcfe1" in Path("data/meta.json").read_text() and "\udcff" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="the path is no UTF-8 text"):
        choose_directory("run", ["bert"])


def test_another_file_that_is_full_is_not_taken_for_the_output(capsys):
    def body():
        print("x")
        raise OSError(errno.ENOSPC, "No room")

    with pytest.raises(OSError):
        printing(body)
    with pytest.raises(RunError):
        printing(lambda: (_ for _ in ()).throw(RunError("a fault")))
