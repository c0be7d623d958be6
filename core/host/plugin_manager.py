"""The plugins of a run: those that are selected, and the defaults that nothing replaces."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import pluggy

from pipeloom import __version__
from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.config.core_options import add_core_options
from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.options import Options
from pipeloom.core.host import shape
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.calls import call
from pipeloom.core.host.deprecation import warn_of_deprecated
from pipeloom.core.host.discovery import installed_plugins, load_plugin, whose
from pipeloom.core.host.hooks import Guard, Hooks, is_wrapper
from pipeloom.core.host.shape import hooks_of
from pipeloom.core.host.tracing import Trace

__all__ = ["LEFT_OUT", "PluginManager", "declared_options", "hooks_of", "installed_plugins", "load_plugin"]

#: Before the name of a default in a selection, it leaves the default out: ``--plugins bert,-tensorboard``.
LEFT_OUT = "-"


class _Manager(pluggy.PluginManager):
    """pluggy, with the order of calls as the contract has it."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Let plugins declare their options in the order of selection, and answer before any default."""
        options: Any = super().parse_hookimpl_opts(plugin, name) if shape.may_be_hook(plugin, name) else None
        if options is None or options.get("hookwrapper") or options.get("wrapper"):
            return options
        hook = options.get("specname") or name
        if hook == "pipeloom_add_options":
            options.update(tryfirst=False, trylast=True)  # pluggy calls the last one of these last
        elif hook in hookspecs.ONE_ANSWER:
            options.update(tryfirst=False, trylast=getattr(plugin, "__name__", None) in builtin().defaults.values())
        return options


class PluginManager:
    """The plugins of a run. ``manager.hook.pipeloom_place(...)`` calls a hook (``core/host/hooks.py``).

    The defaults (``BuiltinPlugins.defaults``) are there from the beginning. ``load`` takes out those that the selection
    leaves out, and those whose answers selected plugins give.
    """

    def __init__(self) -> None:
        self._manager = _Manager("pipeloom")
        self._manager.add_hookspecs(hookspecs)
        self.hook = Hooks(self._manager)
        #: Name -> version of each selected plugin, in the order of selection.
        self.versions: Dict[str, str] = {}
        #: Each implementation of a hook, its guard, and the function that the plugin has for it.
        self._guarded: List[Tuple[Guard, Any, Callable]] = []
        #: The trace of all that is called (``--trace_plugins``), ``None`` without one.
        self.trace: Optional[Trace] = None
        #: Names of the defaults that the selection leaves out.
        self.left_out: List[str] = []
        for name, module in builtin().defaults.items():
            self._register(importlib.import_module(module), name)

    @property
    def names(self) -> Tuple[str, ...]:
        return tuple(self.versions)

    @property
    def selection(self) -> Dict[str, str]:
        """The whole selection: name -> version, and ``-name`` -> "" of each default that is left out."""
        return {**self.versions, **{LEFT_OUT + name: "" for name in self.left_out}}

    @property
    def defaults(self) -> List[str]:
        """Names of the defaults that are in use."""
        return [name for name in builtin().defaults if self._manager.has_plugin(name)]

    def get(self, name: str) -> Any:
        """The module or object of the plugin ``name``; ``None`` where it is not in use."""
        return self._manager.get_plugin(name)

    def load(self, names: Iterable[str]) -> None:
        """Load and register the plugins ``names``, check their hooks, and take out the defaults that they replace.

        Raises ``UsageError`` for an unknown name, one that fails to import, one given twice, what is no plugin or has a
        hook that nobody would call as it is meant, and two plugins that answer the same one-answer hook.
        """
        for name in names:
            if name.startswith(LEFT_OUT):
                self._leave_out(name[len(LEFT_OUT) :])
                continue
            if name in self.versions:
                raise UsageError(f"plugin '{name}' is selected twice")
            plugin, version = load_plugin(name)
            call(whose(name, version), "", shape.check, plugin)
            if any(_is_same(plugin, self.get(other)) for other in (*self.versions, *self.defaults)):
                raise UsageError(f"plugin '{name}' is selected twice, under two names")
            self.versions[name] = version
            call(self.whose(name), "", self._register, plugin, name)
            warn_of_deprecated(self.whose(name), shape.arguments_of(plugin))
        self._check_conflicts()
        self._take_out_replaced()

    def _register(self, plugin: Any, name: str) -> None:
        self._manager.register(plugin, name=name)
        self._manager.check_pending()
        for caller in self._manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    guard = Guard(caller.name, self.whose)
                    self._guarded.append((guard, implementation, implementation.function))
                    guard.put_on(implementation)

    def trace_to(self, trace: Trace) -> None:
        """From now on, trace every call of the plugins that are loaded by now."""
        self.trace = trace
        for guard, implementation, function in self._guarded:
            implementation.function = trace.traced(guard.hook, implementation, function)
            guard.put_on(implementation)

    def _leave_out(self, name: str) -> None:
        known = builtin().defaults
        if name not in known:
            raise UsageError(
                f"--plugins {LEFT_OUT}{name}: there is no default of this name{did_you_mean(name, known)}; "
                f"those that can be left out are {', '.join(known)}"
            )
        if name not in self.left_out:
            self.left_out.append(name)
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)

    def _take_out_replaced(self) -> None:
        """A default goes, with its options, where selected plugins answer all that it would answer."""
        for name in self.defaults:
            answers = hooks_of(self.get(name))
            unique = {hook for hook in answers if hook in hookspecs.ONE_ANSWER}
            others = set(answers) - unique - {"pipeloom_add_options", "pipeloom_default_options"}
            if unique and not others and all(self._selected_answering(hook) for hook in unique):
                self._manager.unregister(name=name)

    def options(self) -> Options:
        """The options of the core and of every plugin, each declared under its plugin's name."""
        options = Options()
        add_core_options(options)
        options.defaults = tuple(self.defaults)

        def owned_by(plugin: str) -> None:
            options.owner = plugin

        self.hook.pipeloom_add_options.answers(before=owned_by, options=options)
        return options

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

    def cluster_options(
        self, environment: Mapping[str, str], given: Mapping[str, Any], options: Options
    ) -> Tuple[str, Dict[str, Any]]:
        """What a plugin knows of the cluster by ``environment``, and its name of who said so; of options not ``given``.

        Raises ``UsageError`` naming the plugin for a value that none can have.
        """
        for plugin, answer in self.hook.pipeloom_cluster_options.answers(environment=environment, given=given):
            where = f"{self.whose(plugin)}, hook pipeloom_cluster_options"
            wanted = [name for name in answer.values if name in options and given.get(name) is None]
            if wanted:
                return answer.source, {name: options.get(name).parse(answer.values[name], where) for name in wanted}
        return "", {}

    def require(self, hook_name: str) -> None:
        """Raise ``UsageError`` listing who could answer, when nobody answers ``hook_name``."""
        if self.implementations(hook_name):
            return
        kind = hookspecs.ONE_ANSWER[hook_name]
        out = [name for name in self.left_out if _answers(hook_name, builtin().defaults[name])]
        if out:
            raise UsageError(
                f"--plugins {LEFT_OUT}{out[0]} leaves out the {kind}, and a run needs one: "
                "select another, or leave this as it is"
            )
        able = sorted(name for name, module in builtin().selectable.items() if _answers(hook_name, module))
        others = sorted(installed_plugins())
        raise UsageError(
            f"no {kind} is selected: add one to --plugins ({', '.join(able)}"
            + (f"; installed: {', '.join(others)}" if others else "")
            + ")"
        )

    def who_answers(self, hook_name: str) -> str:
        """The plugin whose answer to a one-answer hook counts; "" if there is none."""
        names = [implementation.plugin_name for implementation in self.implementations(hook_name)]
        return ([name for name in names if name in self.versions] or names or [""])[-1]

    def implementations(self, hook_name: str) -> List[Any]:
        """pluggy's implementations of a hook without wrappers, in its order: the one that is called first comes
        last.
        """
        found = getattr(self._manager.hook, hook_name).get_hookimpls()
        return [implementation for implementation in found if not is_wrapper(implementation)]

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

    def _selected_answering(self, hook_name: str) -> List[str]:
        answering = [one.plugin_name for one in self.implementations(hook_name) if one.plugin_name in self.versions]
        return sorted(answering, key=self.names.index)

    def _check_conflicts(self) -> None:
        for hook_name, kind in hookspecs.ONE_ANSWER.items():
            answering = self._selected_answering(hook_name)
            if len(answering) > 1:
                first, second = answering[:2]
                raise UsageError(
                    f"plugins '{first}' and '{second}' are both a {kind} ({hook_name}): select only one of them"
                )


def declared_options(plugins: Iterable[str]) -> Options:
    """The options that a run with ``plugins`` has, as far as these plugins can be loaded here."""
    manager = PluginManager()
    for name in plugins:
        try:
            manager.load([name])
        except UsageError:  # it is not installed any more, or in conflict with what is
            continue
    return manager.options()


def _answers(hook_name: str, module: str) -> bool:
    return hook_name in hooks_of(importlib.import_module(module))


def _source_of(plugin: Any) -> Optional[Path]:
    """The file of a plugin; of one in a package the folder of that."""
    module = shape.module_of(plugin)
    file = getattr(module, "__file__", None)
    return Path(file).parent if file and getattr(module, "__package__", None) else Path(file) if file else None


def _is_same(plugin: Any, other: Any) -> bool:
    """Whether two names have brought one plugin, be it the same module loaded twice."""
    file = getattr(plugin, "__file__", None)
    return plugin is other or (file is not None and file == getattr(other, "__file__", None))
