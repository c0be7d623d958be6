"""docs/reports.md: every row has a kind, a report and a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (TESTS.parent / "docs" / "reports.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| kind ")
]


def test_every_row_is_whole():
    assert len(ROWS) > 60 and all(len(row) == 3 and all(row) for row in ROWS)
    for _, reports, _ in ROWS:
        assert reports.startswith("none") or re.search(r"[\w.-]+/[\w.-]+#\d+|^MediaWiki", reports), reports


@pytest.mark.parametrize("file", sorted({name for row in ROWS for name in re.findall(r"`(\w+\.py)", row[2])}))
def test_the_tests_are_there(file):
    (path,) = TESTS.rglob(file)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    named = {name for row in ROWS for name in re.findall(rf"`{re.escape(file)}::(\w+)`", row[2])}
    assert named <= known
