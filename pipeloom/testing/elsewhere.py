"""The same question in a second process, with another order of sets: ``python -m pipeloom.testing.elsewhere``."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Dict

import pipeloom
from pipeloom.core.base.variables import outside_environment
from pipeloom.testing.check import ConformanceError

if TYPE_CHECKING:
    from pipeloom.testing.subject import Subject

#: So long may an answer take, in seconds.
SECONDS = 120


def environment(**more: str) -> Dict[str, str]:
    """The environment of a process that imports what this one imports: plugins may lie anywhere on its path."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(pipeloom.__file__)))
    own = {os.path.realpath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)}
    paths = [os.path.abspath(path or os.curdir) for path in (*sys.path, root)]
    others = [path for path in paths if not os.path.realpath(path).startswith(tuple(own))]
    paths = [path for path in dict.fromkeys([*others, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]) if path]
    return {**outside_environment(os.environ), "PYTHONPATH": os.pathsep.join(paths), **more}


def in_another_process(function: str, subject: "Subject") -> Any:
    """What ``function`` (``module:name``) answers for ``subject`` there; JSON must hold it."""
    question = json.dumps([function, ",".join(subject.selected), subject.options])
    done = subprocess.run(
        [sys.executable, "-m", "pipeloom.testing.elsewhere", question],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        env=environment(PYTHONHASHSEED="7"),
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConformanceError(f"it works in this process and not in another one: {why}")
    return json.loads(lines[-1])


def _answer(question: str) -> None:
    from pipeloom.testing.subject import Subject

    function, selection, options = json.loads(question)
    module, _, name = function.partition(":")
    print("\n" + json.dumps(getattr(importlib.import_module(module), name)(Subject(selection, options))))


if __name__ == "__main__":
    _answer(sys.argv[1])
