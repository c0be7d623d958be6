"""The code is clean by ruff (lint and format) and mypy, as pyproject.toml sets them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]


def findings(module, *arguments):
    """The exit code and the output of ``python -m module``; another version may judge otherwise, and is left out."""
    pinned = re.search(rf"^{module}==(.*)$", (ROOT / "constraints.txt").read_text(), re.M).group(1)
    try:
        installed = metadata.version(module)
    except metadata.PackageNotFoundError:  # mypy: on Python 3.8 and 3.9
        installed = None
    if installed != pinned:
        pytest.skip(f"needs {module} {pinned}, here is {installed}")
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_lint():
    code, text = findings("ruff", "check", "--output-format", "concise", "--no-cache", ".")
    assert code == 0, text


def test_format():
    code, text = findings("ruff", "format", "--check", "--no-cache", ".")
    assert code == 0, text


def test_types():
    code, text = findings("mypy", "--cache-dir", str(ROOT / ".mypy_cache"))
    assert code == 0, text
