"""Whether what a plugin's name stands for is a plugin: a module or an object whose hooks will be called as their author
means it.

pluggy passes over what it does not take for a hook, and a plugin that nobody calls does nothing without a word. So
everything that looks like a hook here and is none is refused with what to change.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import pluggy

from pipeloom.core.base.errors import ContractError, did_you_mean, shown
from pipeloom.core.contract import hookspecs
from pipeloom.core.host.deprecation import deprecated_in

#: The object of a module that is the plugin, where the module has no hooks as functions.
OBJECT = "plugin"
_MARK = "pipeloom_impl"
_WRITE = "write '@pipeloom.hookimpl' above it"


@functools.lru_cache(maxsize=None)
def known_hooks() -> Mapping[str, Tuple[str, ...]]:
    """The hooks of the contract: name -> its arguments."""
    return {
        name: tuple(inspect.signature(hook).parameters)
        for name, hook in vars(hookspecs).items()
        if name.startswith("pipeloom_") and callable(hook)
    }


def hooks_of(plugin: Any) -> List[str]:
    """Names of the hooks that a module or object implements, by ``specname`` where that is given."""
    return sorted(options.get("specname") or name for name, options in marked(plugin).items())


def marked(plugin: Any) -> Dict[str, Mapping[str, Any]]:
    """Return attribute -> what ``hookimpl`` notes of it, for those that are marked."""
    manager = pluggy.PluginManager("pipeloom")
    found: Dict[str, Mapping[str, Any]] = {}
    for name in dir(plugin):
        if not may_be_hook(plugin, name):
            continue
        try:
            options = manager.parse_hookimpl_opts(plugin, name)
        except Exception:  # a property that fails is no hook
            continue
        if options is not None:
            found[name] = options
    return found


def may_be_hook(plugin: Any, name: str) -> bool:
    """Whether ``plugin.name`` is worth pluggy's look, which is slow: in a module only functions are."""
    return not isinstance(plugin, ModuleType) or inspect.isroutine(vars(plugin).get(name))


def arguments_of(plugin: Any) -> Dict[str, Tuple[str, ...]]:
    """The hooks that a plugin implements, each with the arguments that it names."""
    return {
        options.get("specname") or name: tuple(inspect.signature(getattr(plugin, name)).parameters)
        for name, options in marked(plugin).items()
    }


def plugin_in(loaded: Any) -> Any:
    """The plugin that ``loaded`` (a module, or what an entry point names) is or has. Raises ``ContractError``."""
    if inspect.isclass(loaded):
        raise ContractError(
            f"is the class {loaded.__name__}: name an instance of it ('{OBJECT} = "
            f"{loaded.__name__}()' in its module, "
            f"and 'module:{OBJECT}')"
        )
    if not isinstance(loaded, ModuleType):
        if not hooks_of(loaded):
            _refuse_unmarked(loaded)
            raise ContractError(
                f"is {shown(loaded)}, which has no hooks: a plugin is a module, or an object, with "
                "some marked by "
                "@pipeloom.hookimpl"
            )
        return loaded
    inner = vars(loaded).get(OBJECT)
    has_inner = _is_object(inner) and bool(hooks_of(inner))
    if not hooks_of(loaded):
        if has_inner:
            return inner
        _refuse_unmarked(loaded)
        raise ContractError(_why_no_hooks(loaded))
    if has_inner:
        raise ContractError(
            f"has hooks as functions and in the object '{OBJECT}', of which only the former would be "
            "called: keep one of the two"
        )
    return loaded


def module_of(plugin: Any) -> Any:
    """The module that a plugin is or, being an object, comes from."""
    if isinstance(plugin, ModuleType):
        return plugin
    return sys.modules.get(getattr(plugin, "__module__", None) or type(plugin).__module__)


def check(plugin: Any) -> None:
    """Raise ``ContractError`` unless each hook of ``plugin`` is one of the contract and will be called as its author
    means it."""
    for _, part in parts_of(plugin):
        part()


def parts_of(plugin: Any) -> Iterator[Tuple[str, Callable[[], None]]]:
    """Yield each part that ``check`` looks at: a hook's name, "" for the plugin as a whole, and what raises
    ``ContractError`` for it."""
    yield "", partial(_check_version, plugin)
    yield "", partial(_refuse_unmarked, plugin)
    yield "", partial(_refuse_gone, plugin)
    for name, options in marked(plugin).items():
        yield options.get("specname") or name, partial(_check_hook, plugin, name, options)


def _refuse_gone(plugin: Any) -> None:
    gone = next(deprecated_in(arguments_of(plugin)), None)
    if gone is not None and gone.removed_in <= hookspecs.CONTRACT_VERSION:
        raise ContractError(str(gone))


def _check_hook(plugin: Any, name: str, options: Mapping[str, Any]) -> None:
    """Look at what the plugin has under ``name``, with what ``hookimpl`` notes of it."""
    known, hook = known_hooks(), options.get("specname") or name
    if hook not in known:
        close = f" (did you mean 'pipeloom_{hook}'?)" if f"pipeloom_{hook}" in known else did_you_mean(hook, known)
        raise ContractError(f"there is no hook '{hook}'{close}")
    wraps = bool(options.get("hookwrapper") or options.get("wrapper"))
    _check_function(hook, getattr(plugin, name), known[hook], wraps)


def version_of(plugin: Any) -> Any:
    """Return the version of the contract that ``plugin`` states, ``None`` where it states none."""
    version = getattr(plugin, "PIPELOOM_API", None)
    return getattr(module_of(plugin), "PIPELOOM_API", None) if version is None else version


def _check_version(plugin: Any) -> None:
    version, ours = version_of(plugin), hookspecs.CONTRACT_VERSION
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ContractError(f"PIPELOOM_API must be the version of a contract, 1 to {ours}, not {shown(version)}")
    if version > ours:
        raise ContractError(
            f"is made for version {version} of the contract between pipeloom and plugins, this pipeloom has version "
            f"{ours}: update pipeloom, or install an older version of the plugin"
        )


def _check_function(hook: str, function: Any, arguments: Tuple[str, ...], wraps: bool) -> None:
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise ContractError(f"hook {hook} is 'async', and nobody would await it: write a plain 'def'")
    if wraps and not inspect.isgeneratorfunction(inner):
        raise ContractError(
            f"hook {hook} is marked as a wrapper of others and has no 'yield', where the others would be called"
        )
    if inspect.isgeneratorfunction(inner) and not wraps:
        raise ContractError(f"hook {hook} has a 'yield', so nothing in it would run: return the answer instead")
    listed = ", ".join(arguments)
    for parameter in inspect.signature(function, follow_wrapped=False).parameters.values():
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ContractError(
                f"hook {hook} takes '{'*' * (1 + (parameter.kind is parameter.VAR_KEYWORD))}{name}', "
                "where nothing would come in: "
                f"name what it wants of {listed}"
            )
        if name not in arguments:
            if parameter.default is parameter.empty:
                raise ContractError(
                    f"hook {hook} has no argument '{name}'{did_you_mean(name, arguments)}; it has: {listed}"
                )
        elif parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY:
            raise ContractError(
                f"hook {hook} gives '{name}' a default or takes it by its name alone, so it would "
                f"never be passed: write plain '{name}'"
            )


def _refuse_unmarked(plugin: Any) -> None:
    """For a function with the name of a hook that is not marked as one."""
    for name in known_hooks():
        try:
            function = getattr(plugin, name, None)
        except Exception:
            continue
        if function is None or isinstance(getattr(function, _MARK, None), dict) and inspect.isroutine(function):
            continue
        marks = getattr(function, "__dict__", {})
        if "pipeloom_spec" in marks:
            if getattr(function, "__module__", None) == hookspecs.__name__:
                continue  # it has imported the contract
            raise ContractError(f"{name} is marked by hookspec, which is for the host: {_WRITE}")
        other = next(
            (
                mark[: -len("_impl")]
                for mark, value in marks.items()
                if mark.endswith("_impl") and isinstance(value, dict)
            ),
            None,
        )
        if other is not None and other != "pipeloom":
            raise ContractError(f"{name} is marked for '{other}': {_WRITE} (pipeloom.hookimpl, not that of '{other}')")
        if not inspect.isroutine(function):
            raise ContractError(f"{name} is {shown(function)}: a hook is a function")
        raise ContractError(f"{name} is not marked as a hook, so nobody would call it: {_WRITE}")


def _why_no_hooks(module: ModuleType) -> str:
    """What to change in a module without hooks."""
    names = known_hooks()
    for name, value in vars(module).items():
        if _is_object(value) and hooks_of(value):
            return (
                f"its hooks are in the object '{name}': call that '{OBJECT}', or name it by an entry point "
                f"(module:{name})"
            )
    for name, value in vars(module).items():
        if not inspect.isclass(value) or value.__module__ != module.__name__:
            continue
        if hooks_of(value) or set(names) & set(dir(value)):
            marks = "" if hooks_of(value) else ", '@pipeloom.hookimpl' above each hook in it"
            return (
                f"its hooks are in the class {name}, of which nobody makes an instance: "
                f"write '{OBJECT} = {name}()' below it{marks}"
            )
    close = next(
        (name for name, value in vars(module).items() if name.startswith("pipeloom_") and inspect.isroutine(value)),
        None,
    )
    if close is not None:
        return f"it has no hooks: there is no hook '{close}'{did_you_mean(close, names)}"
    inside = _submodule_with_hooks(module)
    if inside is not None:
        return (
            f"it has no hooks itself: name the module that has them ({inside}), or import them into "
            f"{module.__name__}/__init__.py"
        )
    return (
        "it has no hooks: mark functions of the contract (pipeloom_place, ...) with @pipeloom.hookimpl; "
        "core/contract/hookspecs.py lists them"
    )


def _is_object(value: Any) -> bool:
    """Whether ``value`` is neither a function, a class, a module nor nothing."""
    return not (value is None or inspect.isclass(value) or isinstance(value, ModuleType) or inspect.isroutine(value))


def _submodule_with_hooks(module: ModuleType) -> Optional[str]:
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        path = Path(getattr(found.module_finder, "path", "")) / found.name
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            try:
                if "hookimpl" in file.read_text(encoding="utf-8", errors="replace"):
                    return f"{module.__name__}.{found.name}"
            except OSError:
                continue
    return None
