"""The selected plugins of a run, held to the contract. ``core/host/`` has what this is made of."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

import pluggy

from pipeloom import __version__
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.options import Options
from pipeloom.core.host import shape
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.calls import Hooks, call
from pipeloom.core.host.discovery import installed_plugins, load_plugin, whose
from pipeloom.core.host.shape import hooks_of

__all__ = ["PluginManager", "hooks_of", "installed_plugins", "load_plugin"]


class PluginManager:
    """The selected plugins of a run. ``manager.hook.pipeloom_place(...)`` calls a hook (``core/host/calls.py``)."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("pipeloom")
        self._manager.add_hookspecs(hookspecs)
        self.hook = Hooks(self)
        #: Name -> version of each selected plugin, in the order of selection.
        self.versions: Dict[str, str] = {}
        for name, module in builtin().defaults.items():
            self._manager.register(importlib.import_module(module), name=name)

    @property
    def names(self) -> Tuple[str, ...]:
        return tuple(self.versions)

    def get(self, name: str) -> Any:
        """The module or object of the selected plugin ``name``."""
        return self._manager.get_plugin(name)

    def load(self, names: Iterable[str]) -> None:
        """Load and register the plugins ``names``, then check their hooks.

        Raises ``UsageError`` for an unknown name, one that fails to import, one given twice, what is no plugin or has a
        hook that nobody would call as it is meant, and two plugins that answer the same one-answer hook.
        """
        for name in names:
            if name in self.versions:
                raise UsageError(f"plugin '{name}' is selected twice")
            plugin, version = load_plugin(name)
            call(whose(name, version), "", shape.check, plugin)
            if any(_is_same(plugin, self.get(other)) for other in (*self.versions, *builtin().defaults)):
                raise UsageError(f"plugin '{name}' is selected twice, under two names")
            call(whose(name, version), "", lambda: self._register(plugin, name))
            self.versions[name] = version
        self._check_conflicts()

    def _register(self, plugin: Any, name: str) -> None:
        self._manager.register(plugin, name=name)
        self._manager.check_pending()

    def collect_options(self, options: Options) -> None:
        """Let every plugin declare its options, each under its own name."""
        options.owners_of_ours = ("core", *builtin().defaults)
        hook = self.hook.pipeloom_add_options
        for implementation in hook.get_hookimpls():
            options.owner = implementation.plugin_name
            hook.ask(implementation, options=options)

    def default_options(self, config: Any, options: Options) -> Dict[str, Any]:
        """What plugins answer as defaults for options of others, by name; of options that the user gave none.

        Raises ``UsageError`` naming the plugin for an answer that is no default.
        """
        found: Dict[str, Tuple[Any, str]] = {}
        for plugin, answer in reversed(self.hook.pipeloom_default_options.answers(config=config)):
            for name, value in answer.items():
                if name not in options:
                    continue
                value = options.get(name).parse(value, f"{self.whose(plugin)}, hook pipeloom_default_options")
                if found.setdefault(name, (value, plugin))[0] != value:
                    raise UsageError(
                        f"plugins '{found[name][1]}' and '{plugin}' have different defaults for the "
                        f"option '{name}': give it with --{name}, or select only one of them"
                    )
        return {name: value for name, (value, _) in found.items() if name not in config.given}

    def require(self, hook_name: str) -> None:
        """Raise ``UsageError`` listing who could answer, when nobody answers ``hook_name``."""
        if self.implementations(hook_name):
            return
        kind = hookspecs.ONE_ANSWER[hook_name]
        selectable = builtin().selectable.items()
        able = sorted(name for name, module in selectable if hook_name in hooks_of(importlib.import_module(module)))
        others = sorted(installed_plugins())
        raise UsageError(
            f"no {kind} is selected: add one to --plugins ({', '.join(able)}"
            + (f"; installed: {', '.join(others)}" if others else "")
            + ")"
        )

    def who_answers(self, hook_name: str) -> str:
        """The plugin whose answer to a one-answer hook counts; "" if there is none."""
        implementation = getattr(self.hook, hook_name).answering()
        return implementation.plugin_name if implementation is not None else ""

    # --- for core/host/calls.py

    def is_hook(self, name: str) -> bool:
        return hasattr(self._manager.hook, name)

    def implementations(self, hook_name: str) -> List[Any]:
        """pluggy's implementations of a hook, in its order: who is asked first comes last."""
        return getattr(self._manager.hook, hook_name).get_hookimpls()

    def is_selected(self, name: str) -> bool:
        return name in self.versions

    def whose(self, name: str) -> str:
        """How messages call the plugin ``name``."""
        version = __version__ if name in builtin() else self.versions[name]
        return whose(name, f"pipeloom {version}" if version == __version__ else version)

    def author_of(self, files: Iterable[str]) -> Optional[str]:
        """The first selected plugin from outside of pipeloom whose sources one of ``files`` belongs to."""
        roots = {name: _source_of(self.get(name)) for name in self.versions if name not in builtin()}
        for file in files:
            for name, root in roots.items():
                if root is not None and root in (Path(file), *Path(file).parents):
                    return name
        return None

    def _check_conflicts(self) -> None:
        for hook_name, kind in hookspecs.ONE_ANSWER.items():
            answering = [one.plugin_name for one in self.implementations(hook_name) if one.plugin_name in self.versions]
            if len(answering) > 1:
                first, second = sorted(answering, key=self.names.index)[:2]
                raise UsageError(
                    f"plugins '{first}' and '{second}' are both a {kind} ({hook_name}): select only one of them"
                )


def _source_of(plugin: Any) -> Optional[Path]:
    """The file of a plugin; of one in a package the folder of that."""
    module = shape.module_of(plugin)
    file = getattr(module, "__file__", None)
    return Path(file).parent if file and getattr(module, "__package__", None) else Path(file) if file else None


def _is_same(plugin: Any, other: Any) -> bool:
    """Whether two names have brought one plugin, be it the same module loaded twice."""
    file = getattr(plugin, "__file__", None)
    return plugin is other or (file is not None and file == getattr(other, "__file__", None))
