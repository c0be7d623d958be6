"""Damaged files: taken with sound values, or refused in one line that names the file."""

from __future__ import annotations

import sys
from collections import Counter

import fuzz
import pytest
from fuzz import Finding, one_round, run_here, run_in_children
from mutations import GENERAL, Target


@pytest.mark.filterwarnings(
    "ignore:Unexpected end-group tag"
)  # of protobuf; pytest undoes the filter in plugins/libraries/ofrecord/records.py
@pytest.mark.parametrize(
    "name, rounds",
    [
        ("ofrecord", 420),
        ("index", 300),
        ("config", 180),
        ("checkpoint", 300),
        ("squad", 240),
        ("squad rows", 120),
        ("squad columns", 120),
        ("squad features", 240),
        ("plugin", 84),
    ],
)
def test_damaged_files_are_taken_soundly_or_refused_in_a_line(name, rounds):
    counts = run_here(name, seed=20220225, rounds=range(rounds))
    assert sum(counts.values()) == rounds
    outcomes = Counter()
    for (_, outcome), count in counts.items():
        outcomes[outcome] += count
    assert outcomes["refused"] > rounds / 4 and outcomes["accepted"] > rounds / 20  # it looks at both
    kinds = {kind for kind, _ in counts}
    assert kinds == {*GENERAL, *fuzz.TARGETS[name].mutations()}


def test_the_same_round_does_the_same(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        one_round("ofrecord", 3, 5, tmp_path / folder)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("a", "b"))
    assert first == second != fuzz.TARGETS["ofrecord"].files()


@pytest.mark.parametrize(
    "read, says",
    [
        (lambda folder: 1 / 0, "ZeroDivisionError"),
        (lambda folder: (_ for _ in ()).throw(fuzz.PipeloomError("it is broken")), "does not say where: it is broken"),
        (lambda folder: (_ for _ in ()).throw(AssertionError("7 is out of bounds")), "7 is out of bounds"),
    ],
)
def test_any_other_end_is_a_finding(monkeypatch, tmp_path, read, says):
    monkeypatch.setitem(fuzz.TARGETS, "bad", Target(read, lambda: {"a": b"123"}, dict, "{folder}"))
    with pytest.raises(Finding, match=f"bad round 4 of seed 0.*{says}"):
        one_round("bad", 0, 4, tmp_path)


CHILD = """
import os, signal, sys, time
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    print("begin", number, flush=True)
    if number == 2: os.kill(os.getpid(), signal.SIGSEGV)
    if number == 4: time.sleep(60)
    print("accepted" if number != 5 else "finding round 5", flush=True)
    if number == 6: os._exit(3)
"""


def test_children_that_crash_or_hang_are_counted_and_the_rest_goes_on():
    counts, findings = run_in_children("x", 0, 7, [sys.executable, "-c", CHILD], limit=1.0)
    assert counts == {"accepted": 4, "finding": 1, "crashed": 2, "hung": 1}
    assert findings == [
        "x round 2 of seed 0: the process ended with -11",
        "x round 4 of seed 0: hangs: more than 1 s",
        "round 5",
        "x round 6 of seed 0: the process ended with 3",
    ]


def test_the_command_line_runs_children(capsys):
    assert fuzz.main(["--target", "ofrecord", "--rounds", "20", "--seed", "5"]) == 0
    assert capsys.readouterr().out.startswith("ofrecord: ")
