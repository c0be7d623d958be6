"""Signals to the launcher, counted instead of letting them interrupt it anywhere."""

from __future__ import annotations

import signal
import time
from typing import Dict

#: Ask a job to save and end: the user, a terminal that closes, a batch system when the time is nearly over (Slurm's
#: usual warning is SIGUSR1, of others SIGUSR2).
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: What of that a single rank hands on to its launcher; Ctrl-C and the terminal are the launcher's own business.
OF_A_RANK = frozenset((signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))

#: Who starts the launcher often sends a signal twice, to it and to its group (timeout(1), uv run): that is one wish.
_SAME_SECONDS = 0.1


class Stopped(Exception):
    """The user has asked to stop while there was nothing to stop but a wait."""

    def __init__(self, number: int):
        super().__init__(signal_name(number))
        self.exit_code = 128 + number


class Signals:
    """While entered, the signals that ask to stop only add to ``count``; ``number`` is the last one."""

    def __init__(self) -> None:
        self.count, self.number = 0, 0
        self._counted = 0.0

    def __enter__(self) -> "Signals":
        self._before: Dict[int, object] = {}
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and `&` mean what they say
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: object) -> None:
        if self.count and time.monotonic() - self._counted < _SAME_SECONDS:
            return
        self.count += 1
        self.number, self._counted = number, time.monotonic()

    def check(self) -> None:
        """Raises ``Stopped`` once a signal has come."""
        if self.count:
            raise Stopped(self.number)


def asked_to_stop(code: int) -> bool:
    """Whether an exit code says that a process has left, or been killed, because somebody asked it to stop."""
    return (-code if code < 0 else code - 128) in STOPPING


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
