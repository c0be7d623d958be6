"""What a check of the doctor answers."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, BAD = "ok", "note", "bad"


@dataclass(frozen=True)
class Finding:
    """``status``: ``ok``; ``note`` for what works and may still surprise; ``bad`` for what will fail. ``text`` is one
    line: what was found, and where that is not well, what to do.
    """

    status: str
    text: str


def ok(text: str) -> Finding:
    return Finding(OK, text)


def note(text: str) -> Finding:
    return Finding(NOTE, text)


def bad(text: str) -> Finding:
    return Finding(BAD, text)
