"""Kinds of records that plugins add, by the example and by plugins that do it wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeloom.core.commands.cli import main
from pipeloom.plugins.libraries.ofrecord.index import INDEX
from pipeloom.plugins.libraries.ofrecord.records import decode, messages, write_part

pytestmark = pytest.mark.fast

EXAMPLE = str(Path(__file__).resolve().parents[3] / "examples" / "my_data.py")

PLUGIN = """
import numpy as np
import pipeloom
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import RecordChecks, RecordKind, RecordRule

class Sum:
    total = 0
    def add(self, batch):
        self.total += int(batch["x"].sum())
    def phrases(self, records):
        return {"sum": str(self.total)}

FIELD = Field("x", (3,), "int32", low=0, high=9)
RULE = RecordRule(("x",), lambda batch: batch["x"][:, 0] > 0, "x begins with 0")
def matches(record):
    return "x" in record
def checks(record, folder):
    return RecordChecks([FIELD], rules=[RULE], statistics=Sum())
def lines(record, tokenizer):
    return ["  three: " + str(record["x"].tolist())]

@pipeloom.hookimpl
def pipeloom_record_kinds():
    return [RecordKind("triples", matches, checks, lines, "A triple in brackets.")]
"""


@pytest.fixture
def triples(tmp_path, monkeypatch):
    """A folder of five records, two of them bad, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    (tmp_path / "data").mkdir()
    rows = [[1, 2, 3], [4, 5, 6], [0, 1, 2], [7, 8, 8], [7, 8, 9]]
    write_part(tmp_path / "data" / "part-0", [{"x": np.array(row, np.int32)} for row in rows])
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def install(folder: Path, name: str, text: str) -> None:
    """Let a package offer the plugin ``name``."""
    (folder / f"{name}_plugin.py").write_text(text)
    info = folder / f"pipeloom_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pipeloom-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pipeloom]\n{name} = {name}_plugin\n")


def test_the_example_makes_checks_shows_and_reads_its_records(tmp_path, capsys):
    folder, plugins = str(tmp_path / "weather"), ["--plugins", EXAMPLE]
    assert main(["prepare", *plugins, "weather", "--output", folder, "--days", "50"]) == 0
    assert main(["prepare", *plugins, "weather", "--output", folder]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["prepare", "validate", folder, *plugins]) == 0
    said = capsys.readouterr().out
    skies = [decode(message)["sky"][0] for message in messages(tmp_path / "weather" / "part-0")]
    assert "50 days of weather in 1 part" in said
    assert f"{skies.count(0)} clear, {skies.count(1)} cloudy, {skies.count(2)} rain" in said
    assert main(["prepare", "inspect", folder, *plugins, "--count", "50"]) == 0
    shown = re.findall(r"  (\w+), (\S+) to (\S+) degrees", capsys.readouterr().out)
    assert len(shown) == 50
    assert main(["warmest", folder, *plugins]) == 0
    day, warmest = re.fullmatch(r"day (\d+): (\S+) degrees\n", capsys.readouterr().out).groups()
    assert shown[int(day)][2] == warmest == str(max(float(high) for _, _, high in shown))


@pytest.mark.parametrize("how", ["installed", "selected"])
def test_records_are_held_to_their_kind(triples, capsys, how):
    if how == "installed":
        install(triples, "triple", PLUGIN)
    (triples / "plugin.py").write_text(PLUGIN)
    plugins = [] if how == "installed" else ["--plugins", "./plugin.py"]
    assert main(["prepare", "validate", "data", *plugins]) == 1
    said = capsys.readouterr().out
    assert "record 2: x begins with 0\n" in said and not (triples / "data" / INDEX).exists()
    assert "record 4: field 'x' has the value 9 at position 2, allowed are 0 to 8" in said and "2 of 5 records" in said
    assert main(["prepare", "inspect", "data", *plugins, "--record", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("A triple in brackets.\n") and said.count("brackets") == 1 and "  three: [7, 8, 8]\n" in said


def test_good_records_are_counted_and_others_are_no_matter_of_the_kind(triples, capsys):
    (triples / "plugin.py").write_text(PLUGIN)
    write_part(triples / "data" / "part-0", [{"x": np.array([1, 2, 3], np.int32)}] * 4)
    assert main(["prepare", "validate", "data", "--plugins", "./plugin.py"]) == 0
    said = capsys.readouterr().out
    assert "4 triples in 1 part" in said and re.search(r"^sum +24$", said, re.MULTILINE)
    write_part(triples / "data" / "part-0", [{"y": np.array([1], np.int32)}] * 4)
    (triples / "data" / INDEX).unlink()
    assert main(["prepare", "validate", "data", "--plugins", "./plugin.py"]) == 0
    assert "4 records of a kind that is not known here" in capsys.readouterr().out


def test_what_breaks_a_note_is_counted_and_no_fault(triples, capsys):
    text = PLUGIN.replace("rules=[RULE]", "notes=[RULE], why_no_fault='which is rare'").replace("high=9", "high=10")
    (triples / "plugin.py").write_text(text)
    assert main(["prepare", "validate", "data", "--plugins", "./plugin.py"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^note +x begins with 0 in 1 of the records, which is rare$", said, re.MULTILINE)


def test_a_selected_kind_comes_before_a_built_in_one_and_an_installed_one_after(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = PLUGIN.replace('"x" in record', "True").replace('"x"', '"input_ids"')
    text = text.replace("(3,)", "(64,)").replace("high=9", "high=None")
    install(tmp_path, "greedy", text)
    assert main(["prepare", "validate", str(made)]) == 0
    assert "pre-training examples" in capsys.readouterr().out
    assert "greedy_plugin" not in sys.modules  # pipeloom's own kinds load nobody's code
    assert main(["prepare", "validate", str(made), "--plugins", "greedy"]) == 0
    assert " triples in 3 parts" in capsys.readouterr().out
    sys.modules.pop("greedy_plugin")


def test_two_plugins_for_one_record_are_both_named(triples, capsys):
    for name in ("first", "second"):
        install(triples, name, PLUGIN)
    assert main(["prepare", "validate", "data"]) == 2
    error = capsys.readouterr().err
    assert "of a kind of two plugins, 'first' and 'second': name one with --plugins" in error
    assert main(["prepare", "validate", "data", "--plugins", "second"]) == 1


def test_an_installed_plugin_that_cannot_be_loaded_is_a_warning_and_a_selected_one_an_error(triples, capsys):
    install(triples, "broken", "1 / 0\n")
    assert main(["prepare", "inspect", "data", "--count", "1"]) == 0
    said = capsys.readouterr()
    assert "x" in said.out and said.err.startswith("pipeloom: warning: a plugin that may know these records is un")
    assert said.err.count("\n") == 1 and "plugin 'broken'" in said.err
    for kind in ("inspect", "validate"):
        assert main(["prepare", kind, "data", "--plugins", "broken"]) == 2
        assert "error: plugin 'broken' (pipeloom-broken 1.0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('return "x" in record', "1 / 0", "its kind of records 'triples': ZeroDivisionError"),
        ("return RecordChecks([FIELD], rules=[RULE], statistics=Sum())", "return 3", "'checks' returns 3, not Record"),
        ("rules=[RULE]", "rules=[3]", "'rules' of its RecordChecks must be a list of RecordRules, not [3]"),
        ("[FIELD], rules", "[], rules", "'fields' of its RecordChecks is empty"),
        ('RecordRule(("x",)', 'RecordRule(("y",)', "its rule 'x begins with 0' reads ('y',), not some of the fields"),
        ('batch["x"][:, 0] > 0', 'batch["x"] > 0', "'x begins with 0' answers bool [5, 3] for"),
        ('batch["x"][:, 0] > 0', 'batch["x"][:, 0]', "'x begins with 0' answers int32 [5] for"),
        ('return {"sum": str(self.total)}', "return 3", "its statistics are 3, not phrases by their titles"),
        ("self.total +=", "self.total += 1 / 0 +", "its kind of records 'triples': ZeroDivisionError"),
        ("statistics=Sum()", "fault_of_folder=lambda records: None", "'fault_of_folder' returns None, not text"),
    ],
)
def test_what_a_kind_does_wrong_in_validate_is_its_plugins_fault(triples, capsys, old, new, says):
    assert old in PLUGIN
    (triples / "plugin.py").write_text(PLUGIN.replace("high=9", "high=10").replace(old, new))
    write_part(triples / "data" / "part-0", [{"x": np.array([1, 2, 3], np.int32)}] * 5)
    assert main(["prepare", "validate", "data", "--plugins", "./plugin.py"]) == 1
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert says in error and "plugin './plugin.py' (file)" in error


@pytest.mark.parametrize("new, says", [("3", "'lines' returns 3, not a list of lines or None"), ("[3]", "returns [3]")])
def test_what_a_kind_does_wrong_in_inspect_is_its_plugins_fault(triples, capsys, new, says):
    (triples / "plugin.py").write_text(re.sub(r'return \["  three.*', f"return {new}", PLUGIN))
    assert main(["prepare", "inspect", "data", "--plugins", "./plugin.py"]) == 1
    error = capsys.readouterr().err
    assert says in error and "plugin './plugin.py' (file)" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "answer, says",
    [
        ("None", "it answers None (is a 'return' missing?), not a list of RecordKinds"),
        ("[3]", "not a list of RecordKinds"),
        ("[RecordKind('', matches, checks)]", "its RecordKind '': 'name' must be words"),
        ("[RecordKind('a', 3, checks)]", "its RecordKind 'a': 'matches' must be a function"),
        ("[RecordKind('a', matches, checks, 3)]", "its RecordKind 'a': 'lines' must be a function or None"),
        ("[RecordKind('a', matches, checks, None, 3)]", "its RecordKind 'a': 'legend' must be text, not 3"),
    ],
)
def test_an_answer_that_is_no_kind_is_refused(triples, capsys, answer, says):
    (triples / "plugin.py").write_text(re.sub(r"return \[RecordKind\(.*", f"return {answer}", PLUGIN))
    assert main(["prepare", "validate", "data", "--plugins", "./plugin.py"]) == 2
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert says in error and "hook pipeloom_record_kinds" in error
