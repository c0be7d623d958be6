"""Every built-in and installed plugin and what it provides; a broken one harms no other and not this process."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import time
from typing import Any, Callable, Dict, Tuple

from pipeloom import __version__
from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.base.variables import TRACEBACK
from pipeloom.core.contract import hookspecs
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.discovery import Offer, installed_plugins, load_plugin, scan, selection_notes, whose
from pipeloom.plugins.commands.plugin_list.description import description_of, manager_with, provided_by, summary_of

#: So long may the import of an installed plugin take.
IMPORT_SECONDS = 20.0


def describe_plugins() -> str:
    """The text of ``entry.py plugins``."""
    lines = ["built-in:"]
    for name, module in builtin().selectable.items():
        lines.append(f"  {name:<16} {_line_of(importlib.import_module(module))}")
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
        lines.append(f"  {name:<16} {_line_of(importlib.import_module(module))}")
    return "\n".join(lines)


def all_described() -> Dict[str, Any]:
    """Return all of it as data: ``description_of`` of each plugin, in the same keys of one that cannot be used."""
    plugins = [description_of(name) for name in builtin().selectable]
    for name, offers in sorted(installed_plugins().items()):
        for offer in offers:
            content, fault = _in_child(offer, description_of)
            if content is None:
                content = {**dict.fromkeys(plugins[0]), "name": name, "kind": "installed", "usable": False}
                content.update(distribution=offer.distribution, fault=fault, provides=[], hooks=[], options=[])
            plugins.append(content)
    plugins += [description_of(name) for name in builtin().defaults]
    return {
        "pipeloom": __version__,
        "contract": hookspecs.CONTRACT_VERSION,
        "plugins": plugins,
        "notes": selection_notes(),
        "warnings": scan()[1],
    }


def examine(offer: Offer) -> Tuple[bool, str]:
    """Whether an installed plugin can be used, and what it provides, else why not."""
    provided, fault = _in_child(offer, lambda name: _line_of(load_plugin(name)[0]))
    return (False, fault) if provided is None else (True, provided)


def _in_child(offer: Offer, ask: Callable[[str], Any]) -> Tuple[Any, str]:
    """Return what ``ask`` returns of an installed plugin, and "", else ``None`` and why it cannot be used.

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
            with os.fdopen(writing, "wb", closefd=False) as pipe:  # whole, however long it is
                pipe.write((json.dumps(_load(offer, ask)) + "\n").encode())
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
        content, fault = json.loads(answer)
        return content, fault
    if not in_time:
        how = f"takes more than {IMPORT_SECONDS:g} s"
    elif os.WIFSIGNALED(status):
        how = f"ends the process by {signal.Signals(os.WTERMSIG(status)).name}"
    else:
        how = f"ends the process with exit code {os.WEXITSTATUS(status)}"
    return None, f"{whose(offer.name, offer.distribution)}, its import: it {how}"


def _be_silent() -> None:
    nowhere = open(os.devnull, "r+")
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if name != "stderr" or not os.environ.get(TRACEBACK):
            os.dup2(nowhere.fileno(), number)
            setattr(sys, name, nowhere)


def _load(offer: Offer, ask: Callable[[str], Any]) -> Tuple[Any, str]:
    try:
        content = ask(offer.name)
        manager_with(offer.name).options()
        return content, ""
    except PipeloomError as error:
        return None, str(error)


def _line_of(plugin: Any) -> str:
    return f"{', '.join(provided_by(plugin)) or 'no hooks':<28} {summary_of(plugin)}"


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
