"""The kit as its users meet it: ``pytest --pipeloom NAME``, and ``conformance_tests`` in a file of tests."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import ROOT, environment

from pipeloom.core.contract.scope import Ops
from pipeloom.testing import Subject, checks_of, conformance_tests
from pipeloom.testing.collecting import subject_of
from pipeloom.testing.symbols import CountingOps

pytestmark = pytest.mark.fast

STREAM = Path(__file__).resolve().parents[1] / "masked_stream.py"
STRATEGY = ROOT / "examples" / "my_strategy.py"


def run_pytest(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "pipeloom.testing.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_pytest_collects_the_checks_that_fit_and_fails_by_one_line(tmp_path):
    (tmp_path / "test_other.py").write_text("def test_other(): assert 0, 'not collected'\n")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(STRATEGY.read_text().replace("stages.reverse()", "stages.pop()"))
    fast = ["-q", "-m", "not pipeloom_engine", "--strict-markers"]
    code, said = run_pytest(tmp_path, *fast, "--pipeloom", f"{wrong},{STREAM}", "-k", "loads or places")
    assert code == 1 and "1 failed, 1 passed, 3 deselected" in said and "not collected" not in said
    lines = [line for line in said.splitlines() if line.startswith(f"{wrong}: ")]
    assert len(lines) == 1 and "must use each of the ranks" in lines[0] and "Traceback" not in said


def test_other_runs_of_pytest_are_left_alone(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it(): assert not [m for m in sys.modules if m in ('numpy', 'pipeloom.core')]\n"
    )
    code, said = run_pytest(tmp_path, "-q")
    assert code == 0 and "1 passed" in said, said


def test_three_lines_in_a_file_of_tests_are_the_same_checks():
    test = conformance_tests(f"{STRATEGY},{STREAM}", "--head_on_node_0", "false", engine=False)
    (mark,) = test.pytestmark
    names = [one.values[0][1].name for one in mark.args[1]]
    assert names == [check.name for check in checks_of(Subject(str(STRATEGY))) if not check.engine]
    assert "places_every_rank_once" in names and mark.args[1][0].id == "my_strategy-loads_and_makes_a_plan"


def test_what_stands_after_the_name_is_for_its_run():
    subject = subject_of(f"{STREAM},bert --seq_length 16 --num_hidden_layers=3 --hidden_size '64'")
    assert subject.names == [str(STREAM), "bert", "inter_first"] and subject.plan.mesh.size == 1
    found = [getattr(subject.config, name) for name in ("seq_length", "num_hidden_layers", "hidden_size")]
    assert found == [16, 3, 64] and subject.config.num_attention_heads == 2  # small unless it is said otherwise


def test_a_name_that_nobody_has_is_one_check_that_says_so():
    (check,) = checks_of(Subject("zigzga_first"))
    assert check.name == "loads_and_makes_a_plan"
    with pytest.raises(AssertionError, match="no plugin 'zigzga_first'"):
        check.run(Subject("zigzga_first"), Path())


@pytest.mark.parametrize("name", ["inter_first", "intra_first", "by_flops", "optimization", "jsonl", "bert", "gpt2"])
def test_built_in_plugins_keep_to_the_contract(name, tmp_path):
    data = Path(__file__).resolve().parents[1] / "token_stream.py" if name == "gpt2" else STREAM
    subject = Subject(f"{name},{data}")
    for check in checks_of(subject):
        if not check.engine and check.name != "imports_no_engine":  # each costs a process, and others look at that
            (tmp_path / check.name).mkdir()
            check.run(subject, tmp_path / check.name)


def test_it_counts_every_operation_that_a_block_may_use():
    for name, stated in inspect.getmembers(Ops, inspect.isfunction):
        if name.startswith("_"):
            continue
        own = getattr(CountingOps, name, None)
        assert own is not None, f"pipeloom/testing/symbols.py lacks the operation '{name}': count its work and memory"
        takes = inspect.signature(own).parameters
        assert list(inspect.signature(stated).parameters)[: len(takes)] <= list(takes), name
