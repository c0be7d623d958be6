"""Commands of the command line, and kinds of ``prepare``, as plugins add them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Callable, List


@dataclass(frozen=True)
class Command:
    """A command: ``entry.py NAME arguments``.

    ``help`` is for the list of commands. ``run(arguments)`` gets what stands after the name and returns the exit code;
    it raises ``UsageError`` and ``RunError``.
    """

    name: str
    help: str
    run: Callable[[List[str]], int]


@dataclass(frozen=True)
class PrepareKind:
    """Something to prepare: ``entry.py prepare NAME options``.

    ``add_arguments(parser)`` declares its options, ``run(options)`` does the work and returns the exit code.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Any], int]
