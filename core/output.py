"""Printing of a process that must go on when nobody reads it any more."""
from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Set, Union


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


def append_to_log(path: Path, content: Union[str, bytes]) -> None:
    """Append to a log, all or nothing. What the disk does not take is lost; that is said, and ends no run."""
    content = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with outliving(path), open(path, "ab", buffering=0) as file:
        size = file.tell()
        if file.write(content) != len(content):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def outliving(log: Path) -> Iterator[None]:
    """Inside, a full disk ends no run, which is worth more than what it logs; printed once for each ``log``."""
    try:
        yield
    except OSError as error:
        if log not in _not_logged:
            _not_logged.add(log)
            print(f"NOT LOGGED {log.name}: {error.strerror or error}; training goes on", flush=True)


_not_logged: Set[Path] = set()
