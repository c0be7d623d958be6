"""The launcher's side of what a rank says without speaking: its phase, its stacks, the state of its threads."""

from __future__ import annotations

import os
import re
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import pipeloom.core
from pipeloom.core.launch.control.phase_page import ASKS, PAGE, Phase

#: So long may a rank take to leave its stacks.
_SECONDS = 2.0
#: So long the threads are watched, at least: one that spins and one that sleeps differ by the time that they use.
_WATCHED_SECONDS = 0.3
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+) \(most recent call first\):$")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


class StackFrame(NamedTuple):
    """A line of a stack."""

    path: str
    line: str
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.path)}:{self.line} {self.function}"


class RankTrace:
    """The file that a rank process gets under the number ``fileno``: a page for its phase, and its stacks behind it.

    The file has no name: on the disk is only what ``write`` has written. Raises ``OSError`` where there is none.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)
        os.ftruncate(self._file.fileno(), PAGE)
        os.lseek(self._file.fileno(), PAGE, os.SEEK_SET)  # the rank's position too
        self._asked: Optional[float] = None
        self._threads: Dict[str, float] = {}
        self._fault = ""
        self._size, self._grown = PAGE, 0.0

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def phase(self) -> Phase:
        return Phase.from_bytes(os.pread(self.fileno(), PAGE, 0))

    @property
    def is_asked(self) -> bool:
        return self._asked is not None

    def ask(self, pid: int, asleep: bool) -> None:
        """Ask the process for its stacks; one that cannot give them is not disturbed."""
        self._asked = self._grown = time.monotonic()
        self._size = os.fstat(self.fileno()).st_size
        self._first = self._size
        self._threads = {name: seconds for name, _, seconds, _ in _threads(pid)}
        if asleep:
            self._fault = "a stopped process cannot leave its stacks"
        elif not _catches(pid):
            self._fault = "it was not yet so far that it could leave its stacks"
        else:
            os.kill(pid, ASKS)

    def is_answered(self) -> bool:
        """Whether the stacks are there, or will not come."""
        now, size = time.monotonic(), os.fstat(self.fileno()).st_size
        if self._asked is None or now < self._asked + _WATCHED_SECONDS:
            return False
        if size > self._size:
            self._size, self._grown = size, now
        if self._fault or (size > self._first and now > self._grown + 0.1):
            return True
        if now < self._asked + _SECONDS:
            return False
        self._fault = "" if size > self._first else f"it left no stacks within {_SECONDS:g} s"
        return True

    def stacks(self) -> str:
        """Return what the rank has left since it was asked."""
        return os.pread(self.fileno(), 1 << 20, self._first).decode("utf-8", "replace")

    def write(self, path: Path, pid: int, title: str) -> str:
        """Append phase, stacks and threads to ``path``; return what could not be had, "" where all could."""
        elapsed, phase = time.monotonic() - (self._asked or 0.0), self.phase()
        lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S')} {title}: {_describe(phase)}", ""]
        lines += [self._fault] if self._fault else ["Python stacks, the innermost call first:", self.stacks().rstrip()]
        lines += [
            "",
            f"threads: name, state, seconds used in all, share of a core in the last {elapsed:.1f} s, waits in",
        ]
        for name, state, seconds, wait in _threads(pid):
            share = (seconds - self._threads.get(name, seconds)) / elapsed
            lines.append(f"  {name:<26} {state}  {seconds:9.2f}  {share:4.0%}  {wait}")
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n\n")
        except OSError as error:
            return f"cannot write {path}: {error.strerror}"
        return self._fault

    def summary(self) -> Dict[str, Any]:
        """Return the phase, and as ``where`` the place that matters in the stack of its thread ("": not known)."""
        phase = self.phase()
        frame = decisive(frames_of(self.stacks(), phase.thread), phase.alone) if not self._fault else None
        seconds = time.monotonic() - phase.since if phase.since else 0.0
        return {"what": phase.what, "alone": phase.alone, "seconds": seconds, "where": str(frame or "")}


def _describe(phase: Phase) -> str:
    return phase.what + (f", for {time.monotonic() - phase.since:.1f} s" if phase.since else "")


def frames_of(stacks: str, thread: int) -> List[StackFrame]:
    """Return the stack of ``thread`` (0: the main thread, which comes last), the innermost call first."""
    by_thread: Dict[int, List[StackFrame]] = {0: []}
    for line in stacks.splitlines():
        head, frame = _THREAD.match(line), _FRAME.match(line)
        if head:
            by_thread[0] = by_thread[int(head.group(1), 16)] = []
        elif frame:
            by_thread[0].append(StackFrame(*frame.groups()))
    return by_thread.get(thread, [])


def decisive(frames: List[StackFrame], alone: bool) -> Optional[StackFrame]:
    """Return the frame that says most of what a thread is at.

    ``alone``: what it does is a plugin's or a library's work; then the innermost frame of a file that belongs neither
    to a library nor to pipeloom, else the call by which pipeloom handed over, else (as for all that waits in the
    engine) the innermost frame of pipeloom.
    """
    kinds = [_kind(frame.path) for frame in frames]
    if alone and "user" in kinds:
        return frames[kinds.index("user")]
    inner = kinds.index("own") if "own" in kinds else len(frames)
    if alone:
        handed = [frame for frame, kind in zip(frames[:inner], kinds) if kind == "library"]
        if handed:
            return handed[-1]
    return frames[inner] if inner < len(frames) else (frames[0] if frames else None)


def _kind(path: str) -> str:
    if path.startswith("<") or "/pluggy/" in path:
        return "machinery"
    path = os.path.realpath(path)
    core = os.path.realpath(next(iter(pipeloom.core.__path__)))
    home = os.path.dirname(core)
    if path.startswith(tuple(os.path.join(home, name, "") for name in ("core", "plugins", "pipeloom"))):
        return "own"
    if path in (os.path.join(home, "entry.py"), os.path.join(home, "__main__.py")):
        return "machinery"
    paths = sysconfig.get_paths()
    if path.startswith(tuple({os.path.realpath(paths[name]) + os.sep for name in ("purelib", "platlib")})):
        return "library"
    return "machinery" if path.startswith(os.path.realpath(paths["stdlib"]) + os.sep) else "user"


def _threads(pid: int) -> List[Tuple[str, str, float, str]]:
    """Return ``(name and number, state, seconds of a core used, kernel function it waits in)`` of each thread."""
    found = []
    tick = os.sysconf("SC_CLK_TCK")
    for task in sorted(_numbers(f"/proc/{pid}/task")):
        folder = f"/proc/{pid}/task/{task}"
        try:
            with open(f"{folder}/stat", encoding="utf-8", errors="replace") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            fields = rest.split()
            seconds = (int(fields[11]) + int(fields[12])) / tick
        except (OSError, IndexError, ValueError):
            continue  # it has ended meanwhile
        found.append((f"{name} {task}", fields[0], seconds, _read(f"{folder}/wchan")))
    return found


def _numbers(folder: str) -> List[int]:
    try:
        return [int(name) for name in os.listdir(folder)]
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\n0")
    except OSError:
        return ""


def _catches(pid: int) -> bool:
    """Whether a process has a handler for ``ASKS``: without one it would be killed by it."""
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return caught is not None and bool(int(caught.group(1), 16) >> (ASKS - 1) & 1)
