"""The rooms of core import one way, plugins of one kind none of another, and one folder alone the engine.

``scripts/rooms.py`` reads the imports from the code and says which rule one breaks.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("rooms", ROOT / "scripts" / "rooms.py")
rooms = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rooms)


@pytest.fixture(scope="module")
def imports():
    return rooms.imports()


def test_no_import_breaks_a_rule(imports):
    bad = [
        f"{each.path}:{each.line} imports {each.target}: {rooms.fault(each)}" for each in imports if rooms.fault(each)
    ]
    assert not bad, "\n".join(bad)


def test_every_room_of_core_has_its_place_in_the_order():
    there = {folder.name for folder in (ROOT / "core").iterdir() if (folder / "__init__.py").exists()}
    assert there == set(rooms.ROOMS)
    assert [path.name for path in (ROOT / "core").glob("*.py")] == ["__init__.py"]


FILE = '''
"""A docstring that names pipeloom.plugins.models.bert is no import."""
from typing import TYPE_CHECKING
import importlib
if TYPE_CHECKING:
    from pipeloom.core.training import trainer
TABLE = {"run": "pipeloom.core.commands.cli:main"}
PROGRAM = "import os\\nfrom pipeloom.plugins.loggers import jsonl"
def lazily():
    import oneflow.nn as nn
    from pipeloom.plugins.models.bert import statement
    importlib.import_module("oneflow.comm")
    __import__("pipeloom.plugins.tasks")
    from . import errors
    from ..config import config as other, nothing
'''


def test_imports_are_read_wherever_they_stand():
    known = {"pipeloom.core.base.errors", "pipeloom.core.training.trainer", "pipeloom.plugins.tasks"}
    known |= {"pipeloom.core.commands.cli", "pipeloom.core.config.config", "pipeloom.plugins.models.bert"}
    read = list(rooms.read_imports(FILE, "pipeloom.core.base.files", False, known))
    assert sorted(target for _, target in read) == [
        "importlib",
        "oneflow.comm",
        "oneflow.nn",
        "pipeloom.core.base.errors",
        "pipeloom.core.commands.cli",
        "pipeloom.core.config",
        "pipeloom.core.config.config",
        "pipeloom.core.training.trainer",
        "pipeloom.plugins.loggers",
        "pipeloom.plugins.models.bert",
        "pipeloom.plugins.tasks",
        "typing",
    ]
    assert (10, "oneflow.nn") in read
    package = list(rooms.read_imports("from . import errors\nfrom .. import data", "pipeloom.core.base", True, known))
    assert package == [(1, "pipeloom.core.base.errors"), (2, "pipeloom.core")]


@pytest.mark.parametrize(
    "path, target, rule",
    [
        ("core/base/files.py", "pipeloom.core.contract.options", "core/base imports only no room"),
        ("core/contract/tasks.py", "pipeloom.core.base.errors", None),
        ("core/contract/tasks.py", "pipeloom.core.host.calls", "core/contract imports only base"),
        ("core/host/calls.py", "pipeloom.plugins", "core imports no plugin"),
        ("core/commands/cli.py", "pipeloom.plugins.libraries.text", "core imports no plugin"),
        ("core/training/trainer.py", "oneflow", "only plugins/executors/oneflow/ imports oneflow"),
        ("plugins/models/bert.py", "oneflow.nn", "only plugins/executors/oneflow/ imports oneflow"),
        ("plugins/executors/numpy.py", "oneflow", "only plugins/executors/oneflow/ imports oneflow"),
        ("plugins/executors/oneflow/graph.py", "oneflow.nn", None),
        (
            "plugins/executors/oneflow/graph.py",
            "pipeloom.plugins.models.bert",
            "plugins of one kind import none of another",
        ),
        ("plugins/models/bert.py", "pipeloom.plugins.models.transformer.sizes", None),
        ("plugins/models/bert.py", "pipeloom.plugins.tasks", "plugins of one kind import none of another"),
        ("plugins/datasets/squad/records.py", "pipeloom.plugins.libraries.text", None),
        ("plugins/datasets/squad/records.py", "pipeloom.core.commands.cli", None),
        ("plugins/libraries/text/tokenization.py", "pipeloom.plugins.datasets.squad", "libraries import no plugin"),
        ("plugins/__init__.py", "pipeloom.plugins.datasets.squad", None),
        (
            "plugins/commands/parity.py",
            "pipeloom.testing.check",
            "core and plugins import nothing of pipeloom.testing",
        ),
        ("plugins/models/bert.py", "pipeloom", None),
        ("plugins/models/bert.py", "numpy", None),
    ],
)
def test_each_rule_catches_what_breaks_it(path, target, rule):
    assert rooms.fault(rooms.Import(path, 1, target)) == rule


def test_the_page_shows_the_arrows_as_they_are(imports):
    page = rooms.PAGE.read_text(encoding="utf-8")
    assert f"```text\n{rooms.picture(imports)}\n```\n" in page, "run scripts/rooms.py --write"
    *_, lines, _ = re.search(r"core\*\* \| (\d+) \| (\d+) \| (\d+)", page).groups()
    now = sum(path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "core").rglob("*.py"))
    assert abs(int(lines) - now) < 0.1 * now, "run scripts/rooms.py --write"


def test_lines_of_code_are_counted_without_comments_and_docstrings():
    source = '"""Two\nlines."""\n\nimport os  # why\n\n\n# a comment\ndef f():\n    """One."""\n    return """a\nb"""\n'
    assert sorted(rooms.code_lines(source)) == [4, 8, 10, 11]
