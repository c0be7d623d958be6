"""What a check is, and how it fails: by one line that says what to change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from pipeloom.testing.subject import Subject

#: Marks checks that start the engine: ``-m "not pipeloom_engine"`` leaves them out.
ENGINE_MARK = "pipeloom_engine"


class ConformanceError(AssertionError):
    """A plugin does not keep to the contract; the text is one line: what is wrong, and what to change."""


@dataclass(frozen=True)
class Check:
    """One check of a plugin.

    ``run(subject, folder)`` raises ``ConformanceError``; ``folder`` is an empty one for files. ``engine``: it starts
    training runs.
    """

    name: str
    run: Callable[["Subject", Path], None]
    engine: bool = False


def need(fits: Any, text: str) -> None:
    """Raise ``ConformanceError`` with ``text`` unless ``fits``."""
    if not fits:
        raise ConformanceError(" ".join(text.split()))
