"""What a rank is doing, in a page of memory that it shares with its launcher.

Writing it costs a microsecond and no wait; the launcher reads it when the rank no longer says anything. Behind the page
the same file takes the stacks that a rank leaves when it is asked for them (``rank_trace.py``).
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import threading
import time
from typing import Mapping, NamedTuple, Optional

from pipeloom.core.base.variables import TRACE_FD

#: Size of the page, and where the stacks begin in the file.
PAGE = 4096
#: Asks a rank for the stacks of all its threads. Of the signals that nothing else uses: neither the engine nor a shell.
ASKS = signal.SIGRTMIN + 7

_HEAD = struct.Struct("<dQ?H")  # since (monotonic seconds), thread, alone, bytes of the text
_LONGEST = 200


class Phase(NamedTuple):
    """``what`` a rank does, ``since`` when (monotonic seconds), in which ``thread`` (0: not known).

    ``alone``: it waits for no other rank in that, so that one that is late is late by its own doing.
    """

    what: str
    since: float = 0.0
    thread: int = 0
    alone: bool = True

    def to_bytes(self) -> bytes:
        text = self.what.encode("utf-8", "replace")[:_LONGEST]
        return _HEAD.pack(self.since, self.thread, self.alone, len(text)) + text

    @classmethod
    def from_bytes(cls, page: bytes) -> "Phase":
        """Return what a page says: of one that nobody has written to, that the rank has not come far."""
        since, thread, alone, length = _HEAD.unpack_from(page)
        if not length:
            return cls("starting")
        return cls(page[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace"), since, thread, alone)


class PhasePage:
    """The rank's side of the page. Without a launcher that reads it, it only remembers."""

    def __init__(self, memory: Optional[mmap.mmap] = None) -> None:
        self._memory = memory
        self.now = Phase("starting")

    @classmethod
    def from_environment(cls) -> "PhasePage":
        """Return the page in the file that the environment names. The variable is removed: it is no child's."""
        number = _number(os.environ)
        os.environ.pop(TRACE_FD, None)
        try:
            return cls(mmap.mmap(number, PAGE)) if number is not None else cls()
        except (OSError, ValueError):  # not what the launcher opened
            return cls()

    def enter(self, what: str, alone: bool = False) -> None:
        """Say what this thread does from now on."""
        self.enter_again(Phase(what, time.monotonic(), threading.get_ident(), alone))

    def enter_again(self, phase: Phase) -> None:
        """Say what it did before, ``now`` as it was then."""
        self.now = phase
        if self._memory is not None:
            content = phase.to_bytes()
            self._memory[: len(content)] = content


def leave_stacks_when_asked() -> None:
    """From now on this process leaves the stacks of its threads in its launcher's file when it gets ``ASKS``.

    Whatever its threads are in: the handler is one of C, and takes no lock.
    """
    number = _number(os.environ)
    if number is None:
        return
    try:
        os.set_inheritable(number, False)
        faulthandler.register(ASKS, file=number, all_threads=True)
    except (OSError, ValueError, RuntimeError):  # not what the launcher opened
        pass


def _number(environment: Mapping[str, str]) -> Optional[int]:
    text = environment.get(TRACE_FD, "")
    return int(text) if text.isascii() and text.isdecimal() else None
