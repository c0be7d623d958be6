"""What a plugin is and has, as data for ``plugins --json`` and ``--hooks``. Keys stay; new ones may come."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from pipeloom import __version__
from pipeloom.core.base.errors import UsageError, did_you_mean, shown
from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.options import Option
from pipeloom.core.host import shape
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.discovery import installed_plugins, load_plugin
from pipeloom.core.host.plugin_manager import PluginManager


def kind_of_plugin(name: str) -> str:
    """Return where a plugin of this name comes from. Raises ``UsageError`` where there is none."""
    if name in builtin():
        return "always there" if name in builtin().defaults else "built-in"
    if name in installed_plugins():
        return "installed"
    if name.endswith(".py") or "/" in name:
        if not Path(name).expanduser().is_file():
            raise UsageError(f"plugin '{name}': there is no such file")
        return "file"
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return "module"
    known = [*builtin().selectable, *builtin().defaults, *installed_plugins()]
    close = did_you_mean(name, known)
    if not close:
        load_plugin(name)  # for its own error, where one that is left out has this name
    raise UsageError(f"no plugin '{name}'{close}; there are: {', '.join(known)}")


def load_any(name: str) -> Tuple[Any, str]:
    """Return the plugin and its version, as ``load_plugin``; also one that is always there."""
    if name in builtin().defaults:
        return importlib.import_module(builtin().defaults[name]), __version__
    return load_plugin(name)


def manager_with(name: str) -> PluginManager:
    """Return a host with this plugin beside the defaults."""
    manager = PluginManager()
    if name not in builtin().defaults:
        manager.load([name])
    return manager


def description_of(name: str) -> Dict[str, Any]:
    """Return what there is to say of the plugin ``name``. Raises ``UsageError`` for one that cannot be used."""
    kind = kind_of_plugin(name)
    plugin, version = load_any(name)
    module = shape.module_of(plugin)
    manager = manager_with(name)
    return {
        "name": name,
        "kind": kind,
        "distribution": f"pipeloom {version}" if version == __version__ else version,
        "module": getattr(module, "__name__", None),
        "file": getattr(module, "__file__", None),
        "usable": True,
        "fault": None,
        "api": shape.version_of(plugin),
        "summary": summary_of(plugin),
        "provides": provided_by(plugin),
        "hooks": hooks_described(plugin),
        "options": [_option(option) for option in manager.options() if option.owner == name],
    }


def hooks_described(plugin: Any) -> List[Dict[str, Any]]:
    """Return each hook that ``plugin`` implements, in the order of the contract."""
    found = []
    for attribute, marks in shape.marked(plugin).items():
        function = inspect.unwrap(getattr(plugin, attribute))
        code = getattr(function, "__code__", None)
        hook = marks.get("specname") or attribute
        found.append(
            {
                "hook": hook,
                "one_answer": hookspecs.ONE_ANSWER.get(hook),
                "wrapper": bool(marks.get("hookwrapper") or marks.get("wrapper")),
                "function": attribute,
                "arguments": list(inspect.signature(getattr(plugin, attribute)).parameters),
                "file": getattr(code, "co_filename", None),
                "line": getattr(code, "co_firstlineno", None),
            }
        )
    order = list(shape.known_hooks())
    return sorted(found, key=lambda one: order.index(one["hook"]) if one["hook"] in order else len(order))


def describe_hooks(content: Mapping[str, Any]) -> str:
    """Return what ``--hooks`` prints of a ``description_of`` a plugin."""
    lines = [f"plugin '{content['name']}' ({content['distribution']}): {content['summary']}"]
    for one in content["hooks"]:
        kind = (
            "wrapper" if one["wrapper"] else f"one answer: {one['one_answer']}" if one["one_answer"] else "all answer"
        )
        call = f"{one['hook']}({', '.join(one['arguments'])})"
        lines.append(f"  {call:<52} {kind:<26} {short_path(one['file'])}, line {one['line']}")
    return "\n".join(lines)


def short_path(file: Any) -> str:
    """Return a path as it is from here, where that is shorter."""
    try:
        return str(Path(str(file)).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


def provided_by(plugin: Any) -> List[str]:
    """Return what kinds of things ``plugin`` answers with."""
    hooks = shape.hooks_of(plugin)
    kinds = [kind for hook, kind in hookspecs.ONE_ANSWER.items() if hook in hooks]
    if "pipeloom_tasks" in hooks:
        kinds.append("tasks")
    if "pipeloom_heads" in hooks and "model" not in kinds:
        kinds.append("heads")
    if any(hook.startswith("pipeloom_on_") for hook in hooks):
        kinds.append("life-cycle hooks")
    return kinds


def summary_of(plugin: Any) -> str:
    """Return the first line of a plugin's docstring, without its name before it."""
    first = next(iter((getattr(plugin, "__doc__", None) or "").strip().splitlines()), "")
    return re.sub(r"^\w+: ", "", first)


def _option(option: Option) -> Dict[str, Any]:
    return {
        "name": option.name,
        "type": option.type.__name__,
        "default": _plain(option.default),
        "section": option.section,
        "help": option.help,
        "choices": None if option.choices is None else [_plain(choice) for choice in option.choices],
        "minimum": option.minimum,
        "maximum": option.maximum,
        "aliases": list(option.aliases),
        "resume": option.resume,
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool, list)) else shown(value)
