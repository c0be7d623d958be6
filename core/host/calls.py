"""The one place that calls plugins: whatever one of them does wrong there becomes one line that says whose fault it
is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Type

from pipeloom.core.base.errors import ContractError, PipeloomError, RunError, UsageError, is_no_home
from pipeloom.core.base.variables import RUN_DIR, TRACEBACK
from pipeloom.core.contract.hookspecs import ANSWERED, ONE_ANSWER


def call(
    whose: str,
    what: str,
    function: Callable,
    *arguments: Any,
    check: Optional[Callable[[Any], Any]] = None,
    kind: Type[PipeloomError] = UsageError,
) -> Any:
    """``function(*arguments)`` of a plugin, made sure of by ``check(answer)``, which may put it into the form that is
    wanted.

    ``whose`` names plugin, distribution and version, ``what`` the hook ("" for the plugin as a whole). An error that
    the plugin raises for its user (``UsageError``, ``RunError``) passes. Raises ``kind`` for everything else it raises,
    ``sys.exit`` among it, and for what ``check`` refuses.
    """
    where = f"{whose}, {what}" if what else whose
    try:
        with _interrupted_by_users_alone():
            answer = function(*arguments)
            return answer if check is None else check(answer)
    except (PipeloomError, KeyboardInterrupt):
        raise
    except ContractError as error:
        raise kind(f"{where}: {error}") from error
    except BaseException as error:  # whatever a third party raises
        if is_no_home(error):  # of a path that the user gave
            raise
        kept = _keep_traceback()
        raise kind(f"{where}: {described(error)}{kept}") from error


@contextmanager
def blaming(plugins: Any) -> Iterator[None]:
    """For what plugins have answered with and is called later (a dataset, a block, an optimizer): an error that comes
    out of the sources of one of ``plugins`` (a ``PluginManager``) becomes a ``RunError`` that names it. Errors of
    pipeloom's own stay as they are.
    """
    try:
        yield
    except PipeloomError:
        raise
    except Exception as error:
        name = plugins.author_of(frame.filename for frame in reversed(traceback.extract_tb(error.__traceback__)))
        if name is None:
            raise
        kept = _keep_traceback()
        raise RunError(f"{plugins.whose(name)}: {described(error)}{kept}") from error


def described(error: BaseException) -> str:
    """``error`` in one line, with the place in the sources where it was raised."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # its __str__ is the plugin's too
        text = ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SystemExit):
        what = f"it calls sys.exit({text})"
        frames = [frame for frame in frames if frame.name != "exit"]  # the engine has one of its own
    else:
        what = type(error).__name__ + (f": {text}" if text else "")
    own = Path(__file__).parent
    if not frames or Path(frames[-1].filename).parent == own or isinstance(error, (SyntaxError, ImportError)):
        return what  # the message of these says where
    return f"{what} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _keep_traceback() -> str:
    """Put the traceback of the error at hand where it can be found: of a rank beside its log; returns what to say of
    it."""
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    directory, rank = os.environ.get(RUN_DIR), os.environ.get("RANK")
    if not directory or rank is None:
        known = os.environ.get(TRACEBACK) or isinstance(sys.exc_info()[1], (SyntaxError, ModuleNotFoundError))
        return "" if known else f"; {TRACEBACK}=1 shows the traceback"
    path = Path(directory) / "logs" / f"traceback_of_rank_{rank}.txt"
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
    return f"; traceback: {path}"


@contextmanager
def importing() -> Iterator[None]:
    """While a plugin is imported, its ``os._exit`` is an error like others: it would else end the command in
    silence."""
    leave, process = os._exit, os.getpid()

    def refuse(code: int) -> None:
        if os.getpid() != process:  # a child that it has started may end
            leave(code)
        raise ContractError(f"it calls os._exit({code})")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave


@contextmanager
def _interrupted_by_users_alone() -> Iterator[None]:
    """Make ``raise KeyboardInterrupt`` of a plugin an error like others. A user's Ctrl-C stays what it is."""
    interrupts = []

    def note(number: int, frame: Any) -> None:
        interrupts.append(number)
        handler(number, frame)

    handler = signal.getsignal(signal.SIGINT)
    heard = threading.current_thread() is threading.main_thread() and callable(handler)
    if heard:
        signal.signal(signal.SIGINT, note)
    try:
        yield
    except KeyboardInterrupt:
        if interrupts:
            raise
        raise ContractError("it raises KeyboardInterrupt") from None
    finally:
        if heard and signal.getsignal(signal.SIGINT) is note:  # a plugin may have put one of its own there
            signal.signal(signal.SIGINT, handler)


class Hook:
    """A hook of the contract, to be called by the names of its arguments.

    A one-answer hook is asked of the plugin whose answer counts and returns that answer, ``None`` where there is none
    to ask. Of others every plugin is called, also after one that fails, whose error is then raised; returns the
    answers.
    """

    def __init__(self, host: Any, name: str, check: Callable[[Any, Mapping[str, Any]], Any]) -> None:
        self._host, self._name, self._check = host, name, check
        #: What a plugin does wrong at the beginning is wrong usage; in the middle of a run, a run that failed.
        self._kind = RunError if name.startswith("pipeloom_on_") else UsageError

    def get_hookimpls(self) -> List[Any]:
        """The implementations as pluggy orders them."""
        return self._host.implementations(self._name)

    def answering(self) -> Optional[Any]:
        """The implementation of a one-answer hook whose answer counts: that of a selected plugin, else the default."""
        found = self.get_hookimpls()
        selected = [one for one in found if self._host.is_selected(one.plugin_name)]
        return (selected or found or [None])[-1]

    def ask(self, implementation: Any, **arguments: Any) -> Any:
        """One plugin's answer, checked. Raises ``UsageError`` or ``RunError`` that names it."""
        given = [arguments[name] for name in implementation.argnames]
        return call(
            self._host.whose(implementation.plugin_name),
            f"hook {self._name}",
            implementation.function,
            *given,
            check=lambda answer: self._check(answer, arguments),
            kind=self._kind,
        )

    def answers(self, **arguments: Any) -> List[Tuple[str, Any]]:
        """Of a hook that all answer: who, and what."""
        found, failed = [], None
        for implementation in reversed(self.get_hookimpls()):
            try:
                found.append((implementation.plugin_name, self.ask(implementation, **arguments)))
            except PipeloomError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return found

    def __call__(self, **arguments: Any) -> Any:
        if self._name not in ONE_ANSWER:
            return [answer for _, answer in self.answers(**arguments)]
        implementation = self.answering()
        return self.ask(implementation, **arguments) if implementation is not None else None


class Hooks:
    """``hooks.pipeloom_place(...)`` calls a hook; ``host`` is the ``PluginManager``."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._hooks: Dict[str, Hook] = {}

    def __getattr__(self, name: str) -> Hook:
        if name not in self._hooks:
            if not self._host.is_hook(name):
                raise AttributeError(f"there is no hook '{name}'")
            self._hooks[name] = Hook(self._host, name, _checked_by(name))
        return self._hooks[name]


def _checked_by(name: str) -> Callable[[Any, Mapping[str, Any]], Any]:
    def check(answer: Any, arguments: Mapping[str, Any]) -> Any:
        if name not in ANSWERED:
            return answer
        # Here and not above: it knows arrays and models, and listing the plugins should not wait for those.
        from pipeloom.core.host.answers import CHECKS

        return CHECKS[name](answer, arguments)

    return check
