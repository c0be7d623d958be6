"""Printing of a process that must go on when nobody reads it any more."""
from __future__ import annotations

import os
import sys
from typing import Any


def survive_closed_output() -> None:
    """From now on, output that nobody takes (a closed terminal, ``| head``) is dropped instead of ending the process.

    A run is worth more than what it says, and says it in its log too. A rank that ended of it would leave the others hanging.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Surviving):
            setattr(sys, name, _Surviving(stream))


class _Surviving:
    """A text stream whose writes never fail."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        # What the stream still holds is written at the interpreter's exit, and must not fail there either.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_streams() -> None:
    """Let what is closed of standard input, output and error (``>&-``) be ``/dev/null``.

    To be called before anything is opened: else the next file or socket gets the number, here or in a process that is
    started, and what is printed ends up in it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)    # the lowest number that is free: this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))
