"""Hooks as the core calls them: ``hooks.pipeloom_place(...)`` goes through pluggy to every plugin that answers.

pluggy calls implementations and the wrappers around them. Each of a plugin's functions is replaced by one that holds it
to the contract (``Guard``), so a fault names the plugin and the hook wherever in that chain it arises.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from pipeloom.core.base.errors import ContractError, PipeloomError, RunError, UsageError
from pipeloom.core.contract.hookspecs import ANSWERED, ONE_ANSWER
from pipeloom.core.host.calls import blame


def is_wrapper(implementation: Any) -> bool:
    """Whether pluggy calls this implementation around the others, in its old form or in that of pluggy 1.2."""
    return bool(implementation.hookwrapper or getattr(implementation, "wrapper", False))


@dataclass
class _Call:
    """A call of a hook that is going on. ``answers`` are those of plugins, before any wrapper has seen them."""

    arguments: Mapping[str, Any]
    before: Optional[Callable[[str], None]] = None
    answers: List[Tuple[str, Any]] = field(default_factory=list)
    failed: Optional[PipeloomError] = None


class _Calls(threading.local):
    """The calls that go on in a thread, the innermost one last."""

    def __init__(self) -> None:
        self.stack: List[_Call] = []


_calls = _Calls()


class Guard:
    """Replaces the functions of implementations of one hook.

    ``whose(plugin)`` is what messages call a plugin.
    """

    def __init__(self, hook: str, whose: Callable[[str], str]) -> None:
        self.hook, self._whose = hook, whose
        #: What a plugin does wrong at the beginning is wrong usage; in the middle of a run, a run that failed.
        self._kind = RunError if hook.startswith("pipeloom_on_") else UsageError

    def put_on(self, implementation: Any) -> None:
        """Let pluggy call the guarded form of ``implementation``, one of pluggy's ``HookImpl``."""
        make = self._wrapper if is_wrapper(implementation) else self._plain
        implementation.function = make(implementation.plugin_name, implementation.function, implementation.hookwrapper)

    def _blame(self, plugin: str) -> Any:
        config = _calls.stack[-1].arguments.get("config")
        return blame(self._whose(plugin), f"hook {self.hook}", self._kind, config)

    def _check(self, answer: Any) -> Any:
        if self.hook not in ANSWERED:
            return answer
        # Here and not above: it knows arrays and models, and listing the plugins should not wait for those.
        from pipeloom.core.host.answers import CHECKS

        return CHECKS[self.hook](answer, _calls.stack[-1].arguments)

    def _check_result(self, result: Any) -> Any:
        """What a wrapper leaves: the one answer, or the list of all."""
        if self.hook in ONE_ANSWER:
            return self._check(result)
        if not isinstance(result, list):
            raise ContractError("it leaves something else than the list of the plugins' answers, as their wrapper")
        return [self._check(answer) for answer in result]

    def _plain(self, plugin: str, function: Callable, _: bool) -> Callable:
        def guarded(*arguments: Any) -> Any:
            call = _calls.stack[-1]
            try:
                with self._blame(plugin):
                    if call.before is not None:
                        call.before(plugin)
                    answer = self._check(function(*arguments))
            except PipeloomError as error:
                if self.hook in ONE_ANSWER:
                    raise
                call.failed = call.failed or error  # the other plugins are called all the same
                return None
            call.answers.append((plugin, answer))
            return answer

        return guarded

    def _wrapper(self, plugin: str, function: Callable, is_old_form: bool) -> Callable:
        def guarded(*arguments: Any) -> Iterator[Any]:
            with self._blame(plugin):
                generator = function(*arguments)
                try:
                    next(generator)
                except StopIteration:
                    raise ContractError("it ends before its 'yield', as a wrapper of the others") from None
            go_on: Callable[[Any], Any] = generator.send
            value: Any = None
            result: Any = None
            try:
                value = result = yield
            except BaseException as error:  # of a plugin that it wraps; pluggy's new form throws it in
                go_on, value = generator.throw, error
            try:
                with self._blame(plugin):
                    answer = _ended(generator, go_on, value)
                    if not is_old_form:
                        return self._check_result(answer)
                    if result.excinfo is None:  # else the error stays that of who raised it
                        result.force_result(self._check_result(result.get_result()))
            except PipeloomError as error:
                if not hasattr(result, "force_exception"):  # the new form, or a pluggy before 1.1
                    raise
                result.force_exception(error)  # raised here, pluggy would print a warning besides
            return None

        return guarded


def _ended(generator: Any, go_on: Callable[[Any], Any], value: Any) -> Any:
    """What a wrapper returns that goes on after its ``yield`` with ``value``."""
    try:
        go_on(value)
    except StopIteration as end:
        return end.value
    generator.close()
    raise ContractError("it has a second 'yield', as a wrapper of the others")


class Hook:
    """A hook of the contract, to be called by the names of its arguments.

    Of a one-answer hook it returns that answer, ``None`` where nobody has one. Of others every plugin is called, also
    after one that fails, whose error is then raised; returns the answers.
    """

    def __init__(self, caller: Any) -> None:
        self._caller = caller

    def __call__(self, **arguments: Any) -> Any:
        return self._call(_Call(arguments))

    def answers(self, before: Optional[Callable[[str], None]] = None, **arguments: Any) -> List[Tuple[str, Any]]:
        """Of a hook that all answer: who, and what. ``before`` is called with a plugin's name before the plugin is.

        An answer that a wrapper has put in the place of others is the wrapper's.
        """
        call = _Call(arguments, before)
        results = self._call(call)
        owners = {id(answer): plugin for plugin, answer in call.answers}
        wrappers = [one.plugin_name for one in self._caller.get_hookimpls() if is_wrapper(one)]
        return [(owners.get(id(result), wrappers[-1] if wrappers else ""), result) for result in results]

    def _call(self, call: _Call) -> Any:
        _calls.stack.append(call)
        try:
            result = self._caller(**call.arguments)
        finally:
            _calls.stack.pop()
        if call.failed is not None:
            raise call.failed
        return result


class Hooks:
    """``hooks.pipeloom_place(...)`` calls a hook of ``manager``, a ``pluggy.PluginManager``."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._hooks: Dict[str, Hook] = {}

    def __getattr__(self, name: str) -> Hook:
        if name not in self._hooks:
            caller = getattr(self._manager.hook, name, None)
            if caller is None:
                raise AttributeError(f"there is no hook '{name}'")
            self._hooks[name] = Hook(caller)
        return self._hooks[name]
