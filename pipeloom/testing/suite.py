"""The tests of ``pytest --pipeloom NAME``; ``pytest_plugin.py`` has them collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeloom.testing.collecting import parameters, run_check, subject_of


def pytest_generate_tests(metafunc: Any) -> None:
    named = metafunc.config.getoption("pipeloom") or []
    metafunc.parametrize("check", [one for text in named for one in parameters(subject_of(text))])


def test_conformance(check: Any, tmp_path: Path) -> None:
    run_check(check, tmp_path)
