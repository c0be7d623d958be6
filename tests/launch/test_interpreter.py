"""Settings of Python that the engine cannot bear, and ones that only look as if."""

from __future__ import annotations

import subprocess
import sys

import pytest
from jobs import ROOT, environment

from pipeloom.core.launch.processes import RankProcess, rank_environment
from pipeloom.plugins.commands.doctor import ranks
from pipeloom.plugins.executors.oneflow import OneFlow

pytestmark = pytest.mark.fast

ODD = {"PYTHONOPTIMIZE": "1", "PYTHONDEVMODE": "1", "PYTHONINSPECT": "1"}


def run(arguments, cwd=None, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(**variables),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def test_ranks_and_the_checks_of_doctor_have_none_of_them(monkeypatch):
    assert not ODD.keys() & rank_environment({**ODD, "PYTHONHASHSEED": "0"}).keys()
    assert OneFlow().environment({"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "8"})["OMP_NUM_THREADS"] == "8"
    for name, value in ODD.items():
        monkeypatch.setenv(name, value)
    assert not ODD.keys() & ranks._environment().keys()


def test_the_log_of_a_rank_is_utf_8_whatever_the_console_is(tmp_path):
    program = "import sys; print('\\u5317', sys.stdout.encoding)"
    rank = RankProcess(1, [sys.executable, "-c", program], environment(PYTHONIOENCODING="utf-16"), tmp_path)
    while not rank.has_ended():
        pass
    assert rank.returncode == 0 and (tmp_path / "rank_1.log").read_bytes() == "北 utf-8\n".encode()


@pytest.mark.parametrize(
    "flags, variables",
    [(["-OO", "-X", "dev"], {}), ([], {"PYTHONOPTIMIZE": "2", "PYTHONDEVMODE": "1"}), (["-I", "-W", "error"], {})],
)
def test_a_command_begins_anew_where_it_must(flags, variables):
    """Whose help is a docstring, which -OO takes away."""
    done = run([*flags, str(ROOT / "entry.py"), "doctor", "--help"], **variables)
    assert done.returncode == 0 and done.stdout.startswith("``entry.py doctor``: looks whether this machine can train")


@pytest.mark.parametrize(
    "flags, says", [(["-O"], "python -O or PYTHONOPTIMIZE"), (["-X", "dev"], "python -X dev or PYTHONDEVMODE")]
)
def test_a_program_that_imports_the_engine_is_told(flags, says):
    program = (
        "from pipeloom.plugins.executors.oneflow.engine import import_oneflow\nfrom pipeloom.core.base.errors import "
        "RunError\n"
        "try:\n    import_oneflow()\nexcept RunError as error:\n    print(error)\n"
    )
    done = run([*flags, "-c", program], PYTHONPATH=str(ROOT))
    assert done.stdout == f"OneFlow 0.9.0 does not run under {says}: leave it out\n"


def test_foreign_packages_named_core_and_plugins_are_not_ours(tmp_path):
    for name in ("core", "plugins"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    done = run([str(ROOT / "entry.py"), "plugins"], cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0 and done.stdout.startswith("built-in:")
