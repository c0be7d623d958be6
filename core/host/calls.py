"""Calls of plugins' functions: whatever one of them does wrong becomes one line that says whose fault it is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Type

from pipeloom.core.base.errors import ContractError, PipeloomError, RunError, UsageError, is_no_home
from pipeloom.core.base.variables import TRACEBACK, run_directory
from pipeloom.core.config.option_paths import unusable_path


def call(
    whose: str,
    what: str,
    function: Callable,
    *arguments: Any,
    check: Optional[Callable[[Any], Any]] = None,
    kind: Type[PipeloomError] = UsageError,
) -> Any:
    """Call ``function(*arguments)`` of a plugin; ``check(answer)`` refuses the answer, or returns it in the form that
    is
    wanted.

    ``whose`` names plugin, distribution and version, ``what`` the hook ("" for the plugin as a whole). An error that
    the plugin raises for its user (``UsageError``, ``RunError``) passes. Raises ``kind`` for everything else it raises,
    ``sys.exit`` among it, and for what ``check`` refuses.
    """
    with blame(whose, what, kind):
        answer = function(*arguments)
        return answer if check is None else check(answer)


@contextmanager
def blame(whose: str, what: str, kind: Type[PipeloomError] = UsageError, config: Any = None) -> Iterator[None]:
    """Make what goes wrong in this block a ``kind`` that names the plugin and the hook, as ``call`` does.

    Of a file of the user's, one that an option of ``config`` names, it becomes a ``UsageError`` that names the option.
    """
    where = f"{whose}, {what}" if what else whose
    try:
        with _interrupted_by_users_alone():
            yield
    except (PipeloomError, KeyboardInterrupt):
        raise
    except ContractError as error:
        raise kind(f"{where}: {error}") from error
    except BaseException as error:  # whatever a third party raises
        if is_no_home(error):  # of a path that the user gave
            raise
        of_user = unusable_path(error, config) if config is not None else None
        if of_user is not None:
            raise UsageError(of_user) from error
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
    directory = run_directory(os.environ)
    if directory is None:
        known = os.environ.get(TRACEBACK) or isinstance(sys.exc_info()[1], (SyntaxError, ModuleNotFoundError))
        return "" if known else f"; {TRACEBACK}=1 shows the traceback"
    path = Path(directory) / "logs" / f"traceback_of_rank_{os.environ['RANK']}.txt"
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

    handler: Any = signal.getsignal(signal.SIGINT)
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
