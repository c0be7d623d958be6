"""Which steps ``--profile`` records."""

from __future__ import annotations

import re
from typing import Any, Optional, Tuple

from pipeloom.core.base.errors import UsageError

#: Steps that run before the first one that is recorded, where a number of steps is given.
WARM_STEPS = 3
#: A recording holds all of its operations in memory, and a viewer opens no more of them.
MOST_STEPS = 100


class StepRange:
    """The type of ``--profile``: a number of steps, ``5``, or the first and the last, ``20-24``."""

    wanted = "a number of steps (5), or the first and the last one (20-24)"
    schema = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\s*\d+\s*(-\s*\d+\s*)?$"}]}

    @staticmethod
    def convert(value: Any) -> Optional[str]:
        text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
        match = re.fullmatch(r"\s*([0-9]{1,12})\s*(?:-\s*([0-9]{1,12})\s*)?", text)
        if match is None:
            return None
        numbers = [int(number) for number in match.groups() if number is not None]
        if numbers[0] < 1 or numbers[-1] < numbers[0]:
            return None
        return "-".join(map(str, numbers))


def steps_of(value: str, done: int, total: int) -> Tuple[int, int]:
    """Return the first and the last step (from 1) of ``value`` in a command that goes on after ``done`` steps.

    Raises ``UsageError`` where it does not make them, or the first one compiles the graph.
    """
    numbers = [int(number) for number in value.split("-")]
    if len(numbers) == 1:
        warm = min(WARM_STEPS, total - done - numbers[0])
        if warm < 1:
            raise UsageError(
                f"--profile {value}: this command makes {total - done} steps, and the first of them, which compiles "
                f"the graph, is not recorded: give fewer, or more --train_steps"
            )
        first, last = done + warm + 1, done + warm + numbers[0]
    else:
        first, last = numbers
        if not done + 2 <= first <= last <= total:
            raise UsageError(
                f"--profile {value}: this command makes steps {done + 1} to {total}, and the first of them, which "
                f"compiles the graph, is not recorded: give steps between {done + 2} and {total}"
            )
    if last - first >= MOST_STEPS:
        raise UsageError(f"--profile {value}: at most {MOST_STEPS} steps, all of whose operations are kept")
    return first, last
