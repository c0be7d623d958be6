"""The two errors that a user may see. Each is one line: what is wrong, where, what to change."""
from __future__ import annotations

import difflib
from typing import Iterable


class PipeloomError(Exception):
    """Base of the errors that end the program with one line instead of a traceback."""

    exit_code = 1


class UsageError(PipeloomError):
    """What the user asked for cannot be: a flag, a name, a shape, a file. Exit code 2."""

    exit_code = 2


class RunError(PipeloomError):
    """A run that began correctly and could not go on. Exit code 1."""

    exit_code = 1


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
