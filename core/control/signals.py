"""Signals to the launcher, counted instead of letting them interrupt it anywhere."""
from __future__ import annotations

import signal
from typing import Dict


class Stopped(Exception):
    """The user has asked to stop while there was nothing to stop but a wait."""

    def __init__(self, number: int):
        super().__init__(signal_name(number))
        self.exit_code = 128 + number


class Signals:
    """While entered, SIGINT, SIGTERM and SIGHUP only add to ``count``; ``number`` is the last one."""

    def __init__(self) -> None:
        self.count, self.number = 0, 0

    def __enter__(self) -> "Signals":
        self._before: Dict[int, object] = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and `&` mean what they say
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: object) -> None:
        self.count += 1
        self.number = number

    def check(self) -> None:
        """Raises ``Stopped`` once a signal has come."""
        if self.count:
            raise Stopped(self.number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
