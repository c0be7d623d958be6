"""A name means one thing in core and plugins: of files, and of what modules have at their top."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
#: What several modules have in the same role: the arguments and the work of a command.
ROLES = {"add_arguments", "run"}
#: Doubles that are still there. To become empty; none may be added.
DOUBLES = {
    "pretraining.py",
    "tasks.py",
    "Evaluator",
    "StepOptimizer",
    "StepSettings",
    "TrainingState",
    "Block",
    "Source",
    "answers.py",
    "dataset.py",
    "describe",
    "kind_of",
    "layers.py",
    "normalize",
    "predict",
    "prepare.py",
    "records.py",
    "scoring.py",
    "sharing.py",
    "whole",
}


def doubles(folders=("core", "plugins"), root=ROOT):
    """The names of files, and of public classes and functions, that occur at several places."""
    places = defaultdict(set)
    for path in (path for folder in folders for path in (root / folder).rglob("*.py")):
        if path.name != "__init__.py":
            places[path.name].add(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith(("_", "pipeloom_"))
            if public and node.name not in ROLES:
                places[node.name].add(path)
    return {name for name, paths in places.items() if len(paths) > 1}


def test_no_name_means_two_things():
    found = doubles()
    assert not found - DOUBLES, f"give one of each another name: {sorted(found - DOUBLES)}"


def test_doubles_are_found(tmp_path):
    for folder, text in (("a", "def f(): pass\nclass C: pass"), ("b", "def f(): pass\ndef _g(): pass"), ("c", "")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text(text)
    assert doubles(("a", "b"), tmp_path) == {"x.py", "f"} and doubles(("a",), tmp_path) == set()
