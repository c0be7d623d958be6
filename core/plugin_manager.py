"""Loading plugins by name, and holding them to the contract."""
from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

import pluggy

from pipeloom.core import hookspecs
from pipeloom.core.errors import UsageError, did_you_mean, shown
from pipeloom.core.options import Options
from pipeloom.plugins import ALWAYS, BUILTIN

#: The entry-point group under which third-party packages offer plugins.
GROUP = "pipeloom"


def installed_plugins() -> Dict[str, List[Any]]:
    """Entry points of the group ``pipeloom`` by name; not loaded, so a broken package harms no other."""
    found = metadata.entry_points()
    group = found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ())
    result: Dict[str, Dict[str, Any]] = {}
    for entry in group:
        # A checkout and an installed copy of one package may both be on the path: same value, one plugin.
        result.setdefault(entry.name, {})[entry.value] = entry
    return {name: list(entries.values()) for name, entries in result.items()}


class PluginManager:
    """The selected plugins of a run. ``manager.hook.pipeloom_place(...)`` calls a hook."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("pipeloom")
        self._manager.add_hookspecs(hookspecs)
        self.hook = self._manager.hook
        #: Name -> version of each selected plugin, in the order of selection.
        self.versions: Dict[str, str] = {}
        for name, module in ALWAYS.items():
            self._manager.register(importlib.import_module(module), name=name)

    @property
    def names(self) -> Tuple[str, ...]:
        return tuple(self.versions)

    def get(self, name: str) -> Any:
        """The module or object of the selected plugin ``name``."""
        return self._manager.get_plugin(name)

    def load(self, names: Iterable[str]) -> None:
        """Load and register the plugins ``names``, then check their hooks.

        Raises ``UsageError`` for an unknown name, one that fails to import, one given twice, a mistyped
        hook, and two plugins that answer the same one-answer hook.
        """
        for name in names:
            if name in self.versions:
                raise UsageError(f"plugin '{name}' is selected twice")
            plugin, version = load_plugin(name)
            self._check_hook_names(name, plugin)
            try:
                self._manager.register(plugin, name=name)
                self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise UsageError(f"plugin '{name}': {_one_line(error)}") from None
            except ValueError:
                raise UsageError(f"plugin '{name}' is selected twice, under two names") from None
            self.versions[name] = version
        self._check_conflicts()

    def collect_options(self, options: Options) -> None:
        """Let every plugin declare its options, each under its own name."""
        for implementation in self.hook.pipeloom_add_options.get_hookimpls():
            options.owner = implementation.plugin_name
            implementation.function(options)

    def default_options(self, config: Any, options: Options) -> Dict[str, Any]:
        """What plugins answer as defaults for options of others, by name; of options that the user gave none.

        Raises ``UsageError`` naming the plugin for an answer that is no default.
        """
        found: Dict[str, Tuple[Any, str]] = {}
        for implementation in self.hook.pipeloom_default_options.get_hookimpls():
            plugin = implementation.plugin_name
            answer = implementation.function(**{argument: config for argument in implementation.argnames})
            if not isinstance(answer, (dict, type(None))):
                raise UsageError(f"plugin '{plugin}': pipeloom_default_options must answer a dict by name, "
                                 f"not {shown(answer)}")
            for name, value in (answer or {}).items():
                if name not in options:
                    continue
                value = options.get(name).parse(value, f"plugin '{plugin}', pipeloom_default_options")
                if found.setdefault(name, (value, plugin))[0] != value:
                    raise UsageError(f"plugins '{found[name][1]}' and '{plugin}' have different defaults for the "
                                     f"option '{name}': give it with --{name}, or select only one of them")
        return {name: value for name, (value, _) in found.items() if name not in config.given}

    def require(self, hook_name: str) -> None:
        """Raise ``UsageError`` listing who could answer, when nobody answers ``hook_name``."""
        if getattr(self.hook, hook_name).get_hookimpls():
            return
        kind = hookspecs.ONE_ANSWER[hook_name]
        able = sorted(name for name in BUILTIN if hook_name in hooks_of(importlib.import_module(BUILTIN[name])))
        others = sorted(installed_plugins())
        raise UsageError(f"no {kind} is selected: add one to --plugins ({', '.join(able)}"
                         + (f"; installed: {', '.join(others)}" if others else "") + ")")

    def who_answers(self, hook_name: str) -> str:
        """The plugin whose answer to a one-answer hook counts; "" if there is none."""
        implementations = getattr(self.hook, hook_name).get_hookimpls()    # the first to be asked is the last
        return implementations[-1].plugin_name if implementations else ""

    def _check_hook_names(self, name: str, plugin: Any) -> None:
        known = [hook for hook in dir(hookspecs) if hook.startswith("pipeloom_")]
        for hook in hooks_of(plugin):
            if hook not in known:
                raise UsageError(f"plugin '{name}': there is no hook '{hook}'{did_you_mean(hook, known)}")

    def _check_conflicts(self) -> None:
        for hook_name, kind in hookspecs.ONE_ANSWER.items():
            answering = [i.plugin_name for i in getattr(self.hook, hook_name).get_hookimpls() if i.plugin_name in self.versions]
            if len(answering) > 1:
                first, second = sorted(answering, key=self.names.index)[:2]
                raise UsageError(f"plugins '{first}' and '{second}' are both a {kind} ({hook_name}): select only one of them")


def hooks_of(plugin: Any) -> List[str]:
    """Names of the hooks that a module or object implements, by ``specname`` where that is given."""
    manager = pluggy.PluginManager("pipeloom")
    found = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    return sorted(options.get("specname") or name for name, options in found.items() if options is not None)


def load_plugin(name: str) -> Tuple[Any, str]:
    """The plugin ``name`` and its version: built-in, entry point, ``./file.py``, or ``module.path``."""
    from pipeloom import __version__

    entries = installed_plugins().get(name, [])
    if name in BUILTIN:
        if entries:
            raise UsageError(f"plugin '{name}': {_distribution(entries[0])} offers a plugin of the name of a built-in one; "
                             f"uninstall it or load it by its module: {entries[0].value}")
        return importlib.import_module(BUILTIN[name]), __version__
    if len(entries) > 1:
        raise UsageError(f"plugin '{name}' is offered by two packages: {' and '.join(map(_distribution, entries[:2]))}; "
                         f"load one by its module: {entries[0].value}")
    if entries:
        return _guarded(name, entries[0].load), _distribution(entries[0])
    if name.endswith(".py") or "/" in name:
        return _guarded(name, lambda: _load_file(name)), "file"
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return _guarded(name, lambda: importlib.import_module(name)), "module"
    known = [*BUILTIN, *installed_plugins()]
    raise UsageError(f"no plugin '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}")


def _load_file(name: str) -> Any:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"plugin '{name}': there is no such file")
    module_name = "pipeloom_file_plugin_" + re.sub(r"\W", "_", str(path.resolve()))
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _guarded(name: str, load: Any) -> Any:
    """Run ``load``; an import that fails becomes one line naming the plugin and the cause."""
    try:
        return load()
    except UsageError:
        raise
    except Exception as error:  # whatever a third party's import raises
        raise UsageError(f"plugin '{name}' fails to load: {type(error).__name__}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _distribution(entry: Any) -> str:
    distribution: Optional[Any] = getattr(entry, "dist", None)
    if distribution is None:
        return entry.value.split(".")[0]
    return f"{distribution.metadata['Name']} {distribution.version}"


def describe_plugins() -> str:
    """The text of ``entry.py plugins``: every built-in and installed plugin and what it provides."""
    lines = ["built-in:"]
    for name, module in BUILTIN.items():
        plugin = importlib.import_module(module)
        lines.append(f"  {name:<16} {_provides(plugin)}")
    installed = installed_plugins()
    lines.append("installed:" if installed else "installed: none (packages offer plugins by the entry-point group 'pipeloom')")
    for name, entries in sorted(installed.items()):
        for entry in entries:
            try:
                what = _provides(load_plugin(name)[0])
            except UsageError as error:
                what = f"unusable: {error}"
            lines.append(f"  {name:<16} {what}  [{_distribution(entry)}]")
    lines.append("always there:")
    for name, module in ALWAYS.items():
        lines.append(f"  {name:<16} {_provides(importlib.import_module(module))}")
    return "\n".join(lines)


def _provides(plugin: Any) -> str:
    hooks = hooks_of(plugin)
    kinds = [kind for hook, kind in hookspecs.ONE_ANSWER.items() if hook in hooks]
    if "pipeloom_tasks" in hooks:
        kinds.append("tasks")
    if any(hook.startswith("pipeloom_on_") for hook in hooks):
        kinds.append("life-cycle hooks")
    summary = next(iter((getattr(plugin, "__doc__", None) or "").strip().splitlines()), "")
    summary = re.sub(r"^\w+: ", "", summary)
    return f"{', '.join(kinds) or 'no hooks':<28} {summary}"
