"""``--trace_plugins FILE``: what plugins are called with, what they answer, and how long they take, as JSON lines.

The functions of a run's plugins are replaced by traced ones only where a trace is asked for: without one a call costs
what it costs. Every process of a job writes a file of its own, each line by one call of the system, so none is lost or
mixed with another, on whatever file system: the command itself FILE, rank 3 ``FILE``'s name with ``.rank_3`` in it.
"""

from __future__ import annotations

import json
import os
import reprlib
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.host.hooks import is_wrapper

#: The option that asks for a trace.
OPTION = "trace_plugins"
#: Hooks that are called between the steps of a run.
STEP_LOOP = ("pipeloom_on_step_end", "pipeloom_on_evaluate", "pipeloom_on_checkpoint")


@dataclass
class _Call:
    """A call of a plugin's function that is going on; ``inner``: seconds in calls of others that it led to."""

    begin: float
    inner: float = 0.0


@dataclass
class _Sum:
    """What the calls of one hook of one plugin took in the step loop."""

    calls: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        self.calls, self.seconds, self.longest = self.calls + 1, self.seconds + seconds, max(self.longest, seconds)


class _Stack(threading.local):
    def __init__(self) -> None:
        self.calls: List[_Call] = []


@dataclass
class Trace:
    """The trace of one process. ``rank`` is ``None`` in the command itself, which plans and starts the ranks."""

    path: Path
    rank: Optional[int] = None
    _sums: Dict[Tuple[str, str], _Sum] = field(default_factory=dict)
    _stack: _Stack = field(default_factory=_Stack)
    _lock: Any = field(default_factory=threading.Lock)
    _file: int = -1
    _loop: Tuple[float, float] = (0.0, 0.0)
    _lost: int = 0

    @classmethod
    def open(cls, file: str, environment: Mapping[str, str]) -> "Trace":
        """Begin a trace, behind what ``file`` holds already. Raises ``UsageError`` where it cannot be written."""
        path, rank = Path(file).expanduser(), None
        if all(name in environment for name in RANK_VARIABLES) and environment["RANK"].isdecimal():
            rank = int(environment["RANK"])
            path = path.with_name(f"{path.stem}.rank_{rank}{path.suffix}")
        trace = cls(path, rank)
        try:
            trace._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UsageError(f"--{OPTION} {file}: {error.strerror}; name a file that can be written") from None
        trace._write({"event": "begin", "time": time.time(), "rank": rank, "pid": os.getpid(), "command": sys.argv})
        return trace

    def traced(self, hook: str, implementation: Any, function: Callable) -> Callable:
        """Return the traced form of ``function``, which a plugin has for ``implementation``, one of pluggy's
        ``HookImpl``."""
        plugin, names = implementation.plugin_name, implementation.argnames

        def event(call: _Call, arguments: Tuple[Any, ...], wraps: bool, **outcome: Any) -> None:
            self._ended(call, hook, plugin, dict(zip(names, arguments)), wraps, **outcome)

        def plain(*arguments: Any) -> Any:
            call = self._began()
            try:
                answer = function(*arguments)
            except BaseException as error:
                event(call, arguments, False, error=error)
                raise
            event(call, arguments, False, result=answer)
            return answer

        def wrapper(*arguments: Any) -> Iterator[Any]:
            call = self._began()
            try:
                answer = yield from function(*arguments)
            except BaseException as error:
                event(call, arguments, True, error=error)
                raise
            event(call, arguments, True, result=answer)
            return answer

        return wrapper if is_wrapper(implementation) else plain

    def summary(self) -> List[str]:
        """The time that plugins took in the step loop of this process, in lines; written into the trace, too."""
        by_plugin: Dict[str, Dict[str, _Sum]] = {}
        with self._lock:
            for (plugin, hook), one in self._sums.items():
                by_plugin.setdefault(plugin, {})[hook] = one
        order = sorted(by_plugin, key=lambda name: -_seconds(by_plugin[name]))
        loop = self._loop[1] - self._loop[0]
        plugins = {
            name: {
                "seconds": _seconds(by_plugin[name]),
                "hooks": {hook: vars(s) for hook, s in by_plugin[name].items()},
            }
            for name in order
        }
        self._write(
            {"event": "summary", "time": time.time(), "rank": self.rank, "loop_seconds": loop, "plugins": plugins}
        )
        width = max((len(name) for name in order), default=0)
        lines = [f"trace      {self.path}: plugins in the step loop (of {loop:.2f} s since the first step's end)"]
        for name in order:
            seconds, hooks = _seconds(by_plugin[name]), by_plugin[name]
            share = f"{seconds / loop:6.2%}" if loop else "      "
            longest = max(hooks.values(), key=lambda one: one.longest).longest
            calls = ", ".join(f"{hook[len('pipeloom_') :]} x {one.calls}" for hook, one in hooks.items())
            lines.append(f"           {name:<{width}} {seconds:9.4f} s {share}  longest {longest:.4f} s  ({calls})")
        if self._lost:
            lines.append(f"           {self._lost} lines could not be written")
        return lines

    def _began(self) -> _Call:
        call = _Call(time.perf_counter())
        self._stack.calls.append(call)
        return call

    def _ended(
        self,
        call: _Call,
        hook: str,
        plugin: str,
        arguments: Mapping[str, Any],
        wraps: bool,
        result: Any = None,
        error: Optional[BaseException] = None,
    ) -> None:
        end = time.perf_counter()
        seconds, stack = end - call.begin, self._stack.calls
        while stack and stack.pop() is not call:
            pass  # one that a generator was thrown away in
        if stack:
            stack[-1].inner += seconds
        own = seconds - call.inner
        if hook in STEP_LOOP:
            with self._lock:
                self._sums.setdefault((plugin, hook), _Sum()).add(own)
                self._loop = (min(self._loop[0] or call.begin, call.begin), end)
        self._write(
            {
                "event": "call",
                "time": time.time() - seconds,
                "rank": self.rank,
                "hook": hook,
                "plugin": plugin,
                "wrapper": wraps,
                "arguments": {name: brief(value) for name, value in arguments.items()},
                "result": None if result is None else brief(result),
                "error": None if error is None else brief(error),
                "seconds": round(seconds, 7),
                "own_seconds": round(own, 7),
            }
        )

    def _write(self, event: Dict[str, Any]) -> None:
        line = (json.dumps(event, ensure_ascii=True) + "\n").encode()
        try:
            if os.write(self._file, line) == len(line):
                return
        except OSError:
            pass
        self._lost += 1  # a full disk ends no run; the summary says it


def _seconds(hooks: Mapping[str, _Sum]) -> float:
    return sum(one.seconds for one in hooks.values())


class _Brief(reprlib.Repr):
    """Short texts of whatever hooks are called with and answer."""

    def repr_instance(self, value: Any, level: int) -> str:
        """Of arrays type and shape; of objects that have no text for people their class, and their name."""
        kind = type(value).__name__
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            return f"<{kind} {value.dtype} {tuple(value.shape)}>"
        if value is None or isinstance(value, (bytes, int, float, BaseException, Path, type)):
            return super().repr_instance(value, level)
        name = getattr(value, "name", None)
        return f"<{kind} {name}>" if isinstance(name, str) and len(name) <= self.maxstring else f"<{kind}>"


_BRIEF = _Brief()
_BRIEF.maxstring = _BRIEF.maxother = 80
_BRIEF.maxdict = _BRIEF.maxlist = _BRIEF.maxtuple = 8
_BRIEF.maxlevel = 3


def brief(value: Any) -> str:
    """Return a text of ``value`` that is like ``repr`` where that is short, and never long or slow."""
    try:
        return _BRIEF.repr(value)
    except Exception:  # an object of a plugin, whose attributes do what they like
        return f"<{type(value).__name__}>"
