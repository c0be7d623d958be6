"""Printing: on consoles that do not know every character, into what is full, and when nobody reads it any more."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Set, Tuple, Union

#: For ``errors=`` of what encodes text: a character that cannot be written becomes ``\\uXXXX``, one beyond U+FFFF two
#: of them. So text in JSON stays what it is, and half a character, which no encoding has, can be read.
ESCAPE = "pipeloom.escape"


def _escape(error: UnicodeError) -> Tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2])), error.end


codecs.register_error(ESCAPE, _escape)


def printing(body: Callable[[], int]) -> int:
    """Run a command and return its exit code: that of ``body``, or 1 where standard output could not be written.

    That costs one line on stderr, or none where the reader has just gone (``| head``). What stderr does not take is
    dropped.
    """
    stdout, stderr = sys.stdout, sys.stderr
    for stream in (stdout, stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPE)
    if stderr is not None:
        sys.stderr = _Surviving(stderr)  # what ends a command is its result, not its progress
    recording = None
    if stdout is not None:
        sys.stdout = recording = _Recording(stdout)
    try:
        try:
            return body()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a training has put there what lets nothing fail
    except OSError as error:
        if recording is None or error is not recording.fault:
            raise
        _Surviving(stdout).let_go()
        if not isinstance(error, BrokenPipeError):
            print(f"pipeloom: error: standard output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    finally:
        sys.stdout, sys.stderr = stdout, stderr


class _Recording:
    """A text stream that keeps the last error of writing to it, to tell it from the error of another file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.fault: Optional[OSError] = None

    def write(self, text: str) -> int:
        return self._noting(self._stream.write, text)

    def flush(self) -> None:
        self._noting(self._stream.flush)

    def _noting(self, action: Callable, *arguments: str) -> Any:
        try:
            return action(*arguments)
        except OSError as error:
            self.fault = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def survive_closed_output() -> None:
    """Drop output that nobody reads (a closed terminal, ``| head``) from now on, instead of ending the process.

    A run is worth more than what it says, and says it in its log too. A rank that ended of it would leave the others
    hanging.
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
            self.let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self.let_go()

    def let_go(self) -> None:
        """Send what it holds, and what is written from now on, nowhere."""
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
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))


def append_to_log(path: Path, content: Union[str, bytes]) -> None:
    """Append to a log, all or nothing. A full disk costs that content and a printed line, and ends no run."""
    content = content.encode("utf-8", ESCAPE) if isinstance(content, str) else content
    with outliving(path), open(path, "ab", buffering=0) as file:
        size = file.tell()
        if file.write(content) != len(content):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def outliving(log: Path) -> Iterator[None]:
    """Let a full disk cost a line, printed once for each ``log``, and not the run, which is worth more than its log."""
    try:
        yield
    except OSError as error:
        if log not in _not_logged:
            _not_logged.add(log)
            print(f"NOT LOGGED {log.name}: {error.strerror or error}; training goes on", flush=True)


_not_logged: Set[Path] = set()
