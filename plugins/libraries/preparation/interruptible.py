"""Commands that the user may stop, and that go on from there when they are given again."""

from __future__ import annotations

import argparse
import sys
from typing import Callable

from pipeloom.core.base.errors import RunError
from pipeloom.core.launch.control.signals import Signals, Stopped


def run_interruptible(prepare: Callable[[argparse.Namespace, Signals], int], options: argparse.Namespace) -> int:
    """Return the exit code of ``prepare(options, signals)``, which asks ``signals`` whether to stop.

    Raises ``RunError`` where the disk does not do what it should, and what ``prepare`` raises.
    """
    try:
        with Signals() as signals:
            return prepare(options, signals)
    except Stopped as stopped:
        print(f"stopped by {stopped}; the same command goes on from here", file=sys.stderr, flush=True)
        return stopped.exit_code
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise RunError(
            f"cannot read or write{where}: {error.strerror or error}; the same command goes on from here"
        ) from error
