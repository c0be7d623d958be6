"""``entry.py plugins``: every built-in and installed plugin and what it provides."""

from __future__ import annotations

import importlib
import json
import os
import re
import select
import signal
import sys
import time
from typing import Any, Tuple

from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.base.variables import TRACEBACK
from pipeloom.core.contract import hookspecs
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.discovery import Offer, installed_plugins, load_plugin, scan, selection_notes, whose
from pipeloom.core.host.shape import hooks_of

#: So long may the import of an installed plugin take.
IMPORT_SECONDS = 20.0


def describe_plugins() -> str:
    """The text of ``entry.py plugins``."""
    lines = ["built-in:"]
    for name, module in builtin().selectable.items():
        lines.append(f"  {name:<16} {_provides(importlib.import_module(module))}")
    installed = installed_plugins()
    none = "none" if selection_notes() else "none (packages offer plugins by the entry-point group 'pipeloom')"
    lines.append("installed:" if installed else f"installed: {none}")
    for name, offers in sorted(installed.items()):
        for offer in offers:
            fine, text = examine(offer)
            lines.append(f"  {name:<16} {text if fine else 'unusable: ' + text}  [{offer.distribution}]")
    lines += [f"  note: {note}" for note in selection_notes()]
    lines += [f"  warning: {note}" for note in scan()[1]]
    lines.append("always there:")
    for name, module in builtin().defaults.items():
        lines.append(f"  {name:<16} {_provides(importlib.import_module(module))}")
    return "\n".join(lines)


def examine(offer: Offer) -> Tuple[bool, str]:
    """Whether an installed plugin can be used, and what it provides, else why not.

    It is loaded in a child of this process: whatever its import does (end the process, print, hang) is then no matter
    of ours.
    """
    answer, in_time = b"", False
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        leave = os._exit
        try:
            _be_silent()
            os.write(writing, (json.dumps(_load(offer)) + "\n").encode())
        finally:
            leave(0)
    os.close(writing)
    try:
        answer, in_time = _line(reading)
    finally:
        os.close(reading)
        if not in_time:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer:
        fine, text = json.loads(answer)
        return fine, text
    if not in_time:
        how = f"takes more than {IMPORT_SECONDS:g} s"
    elif os.WIFSIGNALED(status):
        how = f"ends the process by {signal.Signals(os.WTERMSIG(status)).name}"
    else:
        how = f"ends the process with exit code {os.WEXITSTATUS(status)}"
    return False, f"{whose(offer.name, offer.distribution)}, its import: it {how}"


def _be_silent() -> None:
    nowhere = open(os.devnull, "r+")
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if name != "stderr" or not os.environ.get(TRACEBACK):
            os.dup2(nowhere.fileno(), number)
            setattr(sys, name, nowhere)


def _load(offer: Offer) -> Tuple[bool, str]:
    from pipeloom.core.host.plugin_manager import PluginManager

    try:
        provided = _provides(load_plugin(offer.name)[0])
        manager = PluginManager()
        manager.load([offer.name])
        manager.options()
        return True, provided
    except PipeloomError as error:
        return False, str(error)


def _line(reading: int) -> Tuple[bytes, bool]:
    """What comes through a pipe up to the end of a line, and whether it came, or the end of the pipe, in time."""
    text, deadline = b"", time.monotonic() + IMPORT_SECONDS
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return b"", False
        piece = os.read(reading, 65536)
        if not piece:
            return b"", True
        text += piece
    return text, True


def _provides(plugin: Any) -> str:
    hooks = hooks_of(plugin)
    kinds = [kind for hook, kind in hookspecs.ONE_ANSWER.items() if hook in hooks]
    if "pipeloom_tasks" in hooks:
        kinds.append("tasks")
    if "pipeloom_heads" in hooks and "model" not in kinds:
        kinds.append("heads")
    if any(hook.startswith("pipeloom_on_") for hook in hooks):
        kinds.append("life-cycle hooks")
    summary = next(iter((getattr(plugin, "__doc__", None) or "").strip().splitlines()), "")
    summary = re.sub(r"^\w+: ", "", summary)
    return f"{', '.join(kinds) or 'no hooks':<28} {summary}"
