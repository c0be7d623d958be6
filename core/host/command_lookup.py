"""Finds commands and kinds of ``prepare``: built-in ones by the table, others in the installed plugins."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, List, Optional, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.commands import Command, PrepareKind
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.discovery import installed_plugins
from pipeloom.core.host.plugin_manager import PluginManager


def find_command(name: str) -> Optional[Command]:
    """Return the command ``name``, ``None`` where there is none. Installed plugins are loaded for a foreign name alone.

    Raises ``UsageError`` where two plugins add it, or one that cannot be loaded may have it.
    """
    if name in builtin().commands:
        return import_module(builtin().commands[name][0]).COMMAND
    return _the_only("command", name, "pipeloom_commands")


def find_prepare_kind(name: str) -> Optional[PrepareKind]:
    """Return the kind ``name`` of ``prepare``, ``None`` where there is none. Raises ``UsageError`` as for commands."""
    if name in builtin().prepare_kinds:
        return import_module(builtin().prepare_kinds[name]).KIND
    return _the_only("kind of 'prepare'", name, "pipeloom_prepare_kinds")


def all_prepare_kinds() -> List[PrepareKind]:
    """Return all kinds of ``prepare``, built-in ones first."""
    ours = [import_module(module).KIND for module in builtin().prepare_kinds.values()]
    return ours + [
        kind for _, kind in _of_installed("pipeloom_prepare_kinds")[0] if kind.name not in builtin().prepare_kinds
    ]


def _the_only(what: str, name: str, hook: str) -> Any:
    found, faults = _of_installed(hook)
    having = {plugin: one for plugin, one in found if one.name == name}
    if len(having) > 1:
        raise UsageError(
            f"the {what} '{name}' is of two plugins, {' and '.join(map(repr, sorted(having)))}: uninstall one"
        )
    if not having and faults:
        raise UsageError(f"no {what} '{name}', and a plugin that may have it is unusable: {faults[0]}")
    return next(iter(having.values()), None)


def _of_installed(hook: str) -> Tuple[List[Tuple[str, Any]], List[str]]:
    """Return what the installed plugins answer to ``hook``, each with its plugin, and the faults of those that fail."""
    found: List[Tuple[str, Any]] = []
    faults: List[str] = []
    for name in installed_plugins():
        manager = PluginManager()
        try:
            manager.load([name])
            answers: Dict[str, Any] = dict(getattr(manager.hook, hook).answers())
        except UsageError as error:
            faults.append(str(error))
            continue
        found += [(name, one) for answer in answers.values() for one in answer]
    return found, faults
