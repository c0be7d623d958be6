"""The plugins that come with pipeloom. The core names none of them: its caller hands the table in, once a process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping


@dataclass(frozen=True)
class BuiltinPlugins:
    """``selectable``: name -> module of what ``--plugins`` selects. ``defaults``: of what every run has besides.
    ``folder`` has the sources of all of them."""

    selectable: Mapping[str, str]
    defaults: Mapping[str, str]
    folder: Path

    def __contains__(self, name: object) -> bool:
        return name in self.selectable or name in self.defaults


_table = BuiltinPlugins({}, {}, Path())


def use_builtin(table: BuiltinPlugins) -> None:
    """Make ``table`` the built-in plugins of this process."""
    global _table
    _table = table


def builtin() -> BuiltinPlugins:
    """Return the table that was handed in; an empty one before that."""
    return _table
