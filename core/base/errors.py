"""The two errors that a user may see. Each is one line: what is wrong, where, what to change."""

from __future__ import annotations

import difflib
import reprlib
from pathlib import Path
from typing import Any, Iterable


class PipeloomError(Exception):
    """Base of the errors that end the program with one line instead of a traceback.

    What a file or a name brought in stays in that line: characters that are not printable (line ends, escapes of a
    terminal, halves of characters) stand in it as ``\\n``, ``\\x1b``, ``\\ud800``.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message)))


class UsageError(PipeloomError):
    """What the user asked for cannot be: a flag, a name, a shape, a file. Exit code 2."""

    exit_code = 2


class RunError(PipeloomError):
    """A run that began correctly and could not go on. Exit code 1."""

    exit_code = 1


class ContractError(Exception):
    """What a plugin is, declares or answers is not as the contract has it.

    Raised where that is found; ``core/host/calls.py`` makes a ``UsageError`` of it that says whose fault it is.
    """


def is_no_home(error: BaseException) -> bool:
    """Whether ``pathlib`` says by ``error`` that there is no user of the name in ``~name``."""
    return isinstance(error, RuntimeError) and "home directory" in str(error)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def similar_path(path: Path) -> str:
    """As ``did_you_mean``, for a path that is not there: a name beside it that is nearly right is the usual reason."""
    try:
        return "" if path.exists() else did_you_mean(path.name, [other.name for other in path.parent.iterdir()])
    except OSError:  # nothing there either, or not for our eyes
        return ""


def shown(value: Any) -> str:
    """``value`` as it is shown in an error: like ``repr``, but never long (a YAML file can stand for more than memory
    holds).
    """
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3
