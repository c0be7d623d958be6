"""Finds commands, and whatever else plugins add by a name: built-in commands by the table, others in plugins.

Plugins that ``--plugins`` names in the command come first, then installed ones, which are loaded for nothing else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import ContractError, RunError, UsageError, did_you_mean, shown
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.calls import call
from pipeloom.core.host.discovery import installed_plugins
from pipeloom.core.host.plugin_manager import LEFT_OUT, PluginManager

_SELECTION = "--plugins"


@dataclass(frozen=True)
class Found:
    """Something that a plugin adds: ``value``, the ``plugin``, and ``whose``, what messages call that.

    ``whose`` is "" for what is built in.
    """

    value: Any
    plugin: str = ""
    whose: str = ""

    def call(self, what: str, function: Callable, *arguments: Any, check: Callable[[Any], Any] = lambda it: it) -> Any:
        """Call a function of it, which is for ``what``; a fault is one line that names the plugin (``calls.call``).

        What cannot be printed because nobody reads it any more is no fault.
        """
        if not self.whose:
            return function(*arguments)
        unread: List[OSError] = []

        def guarded() -> Any:
            try:
                return check(function(*arguments))
            except OSError as error:
                if error is not getattr(sys.stdout, "fault", None):
                    raise
                unread.append(error)

        answer = call(self.whose, what, guarded, kind=RunError)
        if unread:
            raise unread[0]
        return answer

    def exit_code(self, what: str, function: Callable, *arguments: Any) -> int:
        """Call ``function``, which returns an exit code, or leaves with one as an argparse parser does."""
        if not self.whose:
            return function(*arguments)
        return self.call(what, _leaving, function, *arguments)


def _leaving(function: Callable, *arguments: Any) -> int:
    try:
        code = function(*arguments)
    except SystemExit as leaving:
        code = 0 if leaving.code is None else leaving.code
        if isinstance(code, str):
            raise RunError(code) from None
    if not isinstance(code, int):
        raise ContractError(f"it returns {shown(code)}, not an exit code (0 where all went well)")
    return int(code)


def split_selection(arguments: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Return the plugins that ``--plugins A,B`` or ``--plugins=A,B`` names in ``arguments``, and the other arguments.

    What follows ``--`` is no option; a ``--plugins`` without a value is left to who reads the other arguments.
    """
    names: List[str] = []
    others: List[str] = []
    rest = list(arguments)
    while rest and rest[0] != "--":
        argument = rest.pop(0)
        option, equals, value = argument.partition("=")
        if option == _SELECTION and not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if option == _SELECTION and value:
            names += [name.strip() for name in value.split(",") if name.strip()]
        else:
            others.append(argument)
    return names, others + rest


def run_command(name: str, arguments: Sequence[str]) -> Optional[int]:
    """Run the command ``name`` and return its exit code; ``None`` where there is no such command.

    ``--plugins`` is taken out of the arguments where one of these plugins adds the command; the command of an installed
    plugin gets all of them. Raises ``UsageError`` where two plugins add it, or one that cannot be loaded may have it.
    """
    if name in builtin().commands:
        return import_module(builtin().commands[name][0]).COMMAND.run(list(arguments))
    selected, others = split_selection(arguments)
    found = the_only("command", name, "pipeloom_commands", selected, builtin().commands)
    if found is None:
        return None
    passed = others if found.plugin in selected else list(arguments)
    return found.exit_code(f"its command '{name}'", found.value.run, passed)


def the_only(what: str, name: str, hook: str, selected: Sequence[str], known: Iterable[str]) -> Optional[Found]:
    """Return what is called ``name``, of selected plugins, else of installed ones."""
    all_faults: List[str] = []
    for plugins, advice in ((selected, "select one"), (installed_besides(selected), f"name one with {_SELECTION}")):
        found, faults = added_by(hook, plugins)
        having = [one for one in found if one.value.name == name]
        if len({one.plugin for one in having}) > 1:
            both = " and ".join(sorted({repr(one.plugin) for one in having}))
            raise UsageError(f"the {what} '{name}' is of two plugins, {both}: {advice}")
        if len(having) > 1:
            raise UsageError(f"{having[0].whose}, hook {hook}: it adds the {what} '{name}' twice")
        if having:
            return having[0]
        all_faults += faults
    if all_faults:
        close = did_you_mean(name, known)
        raise UsageError(f"no {what} '{name}'{close}, and a plugin that may have it is unusable: {all_faults[0]}")
    return None


def added_by_selected(hook: str, selected: Sequence[str]) -> List[Found]:
    """Return what the plugins of a command answer to ``hook``. Raises ``UsageError`` for one that fails."""
    found, faults = added_by(hook, selected)
    if faults:
        raise UsageError(faults[0])
    return found


def installed_besides(selected: Sequence[str]) -> List[str]:
    """Return the names of the installed plugins that are not ``selected``."""
    return [name for name in installed_plugins() if name not in selected]


def added_by(hook: str, plugins: Iterable[str]) -> Tuple[List[Found], List[str]]:
    """Return what ``plugins`` answer to ``hook``, and the faults of those that fail. Built-in ones are in the table."""
    found: List[Found] = []
    faults: List[str] = []
    for name in dict.fromkeys(plugins):
        if name in builtin() or name.startswith(LEFT_OUT):
            continue
        manager = PluginManager()
        try:
            manager.load([name])
            answers: Dict[str, Any] = dict(getattr(manager.hook, hook).answers())
        except UsageError as error:
            faults.append(str(error))
            continue
        found += [Found(one, name, manager.whose(name)) for answer in answers.values() for one in answer]
    return found, faults
