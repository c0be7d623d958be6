"""The Python that the engine runs in: what of its settings the engine cannot bear is kept from it."""

from __future__ import annotations

import os
import sys
from typing import Dict, Mapping, Optional, Sequence

#: Variables that OneFlow 0.9.0 cannot bear, or that are not meant for a rank, whose end is watched.
_KEPT_AWAY = (
    "PYTHONOPTIMIZE",  # python -O: it does work inside of asserts, which are left out then
    "PYTHONDEVMODE",  # python -X dev: a segmentation fault in the first graph
    "PYTHONINSPECT",  # python -i: a prompt in the place of the end
)


def bearable(env: Mapping[str, str]) -> Dict[str, str]:
    """``env`` for a Python process that imports the engine."""
    return {name: value for name, value in env.items() if name not in _KEPT_AWAY}


def unbearable() -> Optional[str]:
    """What of this very process the engine cannot bear, or ``None``."""
    if sys.flags.optimize:
        return "python -O or PYTHONOPTIMIZE"
    return "python -X dev or PYTHONDEVMODE" if sys.flags.dev_mode else None


def begin_anew(command: Sequence[str]) -> None:
    """Where the engine cannot bear this process, execute ``command``, which is this program again, in its place.

    To be called before anything is done.
    """
    if unbearable():
        os.execve(command[0], list(command), bearable(os.environ))
