"""How far a preparation is: a bar on a terminal, now and then a line elsewhere. Also where it notices that it should
stop.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Dict, Mapping, Optional, Tuple

from pipeloom.core.launch.control.signals import Signals

_LINE_SECONDS = 10.0
#: So many templates are kept in meta.json, and so many are shown.
_MOST_TEMPLATES, _SHOWN_TEMPLATES = 100, 8


class Progress:
    """Of one phase after another. ``check`` and ``advance`` raise ``Stopped`` once the user has asked to stop."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._display: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Display

            self._display = Display(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> Progress:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._display is not None:
            self._display.stop()

    def begin(self, description: str, total: float) -> None:
        """A phase whose work is ``total`` units."""
        self._description, self._total = description, max(total, 1)
        self._started = self._said = time.monotonic()
        self._from: Optional[float] = None  # what an earlier try had done does not count for the rate
        if self._display is not None:
            for task in list(self._display.task_ids):
                self._display.update(task, completed=self._display.tasks[0].total, visible=False)
            self._task = self._display.add_task(description, total=self._total, note="")

    def check(self) -> None:
        self._signals.check()

    def advance(self, done: float, count: int, what: str) -> None:
        """``done`` units of the phase, which are ``count`` things that are called ``what``, are there."""
        self.check()
        now = time.monotonic()
        if self._from is None:
            self._from, self._count = done, count
        rate = (count - self._count) / max(now - self._started, 1e-9)
        note = f"{count:,} {what}, {rate:,.0f}/s"
        if self._display is not None:
            self._display.update(self._task, completed=done, note=note)
        elif now - self._said >= _LINE_SECONDS:
            self._said = now
            speed = (done - self._from) / (now - self._started)
            left = f", {_clock((self._total - done) / speed)} left" if speed > 0 else ""
            print(f"{self._description}: {100 * done / self._total:.0f} %, {note}{left}", file=sys.stderr, flush=True)


def listed(counts: Mapping[str, int]) -> str:
    """``12 redirects, 3 empty files``: the largest first."""
    return ", ".join(
        f"{count:,} {what}" for what, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def without_templates(counts: Mapping[str, int]) -> Tuple[Dict[str, int], Dict[str, int]]:
    """What was left out by reason, and the templates that were a reason, the most frequent ones first: they are counted
    as ``{{name}}``."""
    templates = sorted(
        ((name, count) for name, count in counts.items() if name.startswith("{{")), key=lambda item: (-item[1], item[0])
    )
    return {name: count for name, count in counts.items() if not name.startswith("{{")}, dict(
        templates[:_MOST_TEMPLATES]
    )


def say_left_out(reasons: Mapping[str, int], templates: Mapping[str, int]) -> None:
    """A line on what was left out or repaired, and one on the templates."""
    if reasons:
        print(f"left out or repaired: {listed(reasons)}")
    if templates:
        print(
            "templates of which nothing is known, by the sentences left out for them: "
            f"{', '.join(f'{name} {count:,}' for name, count in list(templates.items())[:_SHOWN_TEMPLATES])}"
            f"{' ...' if len(templates) > _SHOWN_TEMPLATES else ''}"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
