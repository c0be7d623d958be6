"""The frame of a rank process: whatever happens, it ends, at once and with an exit code that says why.

An exception (or ``sys.exit``) that reaches the interpreter's normal exit on one rank makes OneFlow wait
there for the other ranks, which wait for this one: all hang. ``os._exit`` skips that wait, and the
launcher then stops the others.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from typing import Callable, NoReturn, Optional

from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.launch.control.phase_page import leave_stacks_when_asked
from pipeloom.core.launch.control.signals import OF_A_RANK


def run_rank(main: Callable[[], Optional[int]]) -> int:
    """Call ``main`` and return 0 if it returns ``None`` or 0; in every other case the process ends here.

    Exit codes: a :class:`PipeloomError` prints its one line and gives its own (2 usage, 1 run); any other
    exception prints its traceback and gives 1; Ctrl-C gives 130 and SIGTERM 143, SIGUSR1 and SIGUSR2 138 and 140,
    without a traceback. ``main`` may install its own handlers for these (to save a checkpoint first).
    Returns to the caller on success, because OneFlow's ordinary exit is what brings the ranks to an end together.
    """
    leave_stacks_when_asked()
    if threading.current_thread() is threading.main_thread():
        for number in OF_A_RANK:
            signal.signal(number, lambda received, _: _leave(128 + received))
    try:
        code = main() or 0
    except PipeloomError as error:
        code = _print_error(f"pipeloom: error: {error}", error.exit_code)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except SystemExit as request:  # sys.exit(None), sys.exit(3), sys.exit("what went wrong")
        requested = request.code or 0
        code = requested if isinstance(requested, int) else _print_error(str(requested), 1)
    except BaseException:
        code = _print_error(traceback.format_exc().rstrip(), 1)
    if code != 0:
        _leave(code)
    _flush()
    return 0


def _print_error(line: str, code: int) -> int:
    """Print ``line`` on stderr, where that can be; return ``code``."""
    try:
        print(line, file=sys.stderr)
    except (OSError, ValueError):
        pass  # nobody listens; it must end all the same
    return code


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError, RuntimeError):
            pass  # a closed pipe, a full disk, a signal amid another flush: it must not keep the process alive


def _leave(code: int) -> NoReturn:
    _flush()
    try:
        logging.shutdown()
    finally:
        os._exit(code)
