"""Warnings to the authors of plugins that use what the contract is going to drop."""

from __future__ import annotations

import os
import sys
from typing import Iterator, Mapping, Sequence, Set

from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.hookspecs import Deprecation

_warned: Set[str] = set()


def deprecated_in(used: Mapping[str, Sequence[str]]) -> Iterator[Deprecation]:
    """What is deprecated, or gone, of the hooks ``used`` with their arguments."""
    for entry in hookspecs.DEPRECATIONS:
        if entry.hook in used and (not entry.argument or entry.argument in used[entry.hook]):
            yield entry


def warn_of_deprecated(whose: str, used: Mapping[str, Sequence[str]]) -> None:
    """Print a line on stderr for each deprecated thing that a plugin uses, once in a process and not in every rank."""
    for entry in deprecated_in(used):
        line = f"pipeloom: warning: {whose}: {entry}"
        if line not in _warned and "RANK" not in os.environ:
            print(line, file=sys.stderr, flush=True)
        _warned.add(line)
