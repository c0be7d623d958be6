"""The plugins that come with pipeloom. The core names none of them: its caller hands the table in, once a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence, Tuple


@dataclass(frozen=True)
class BuiltinPlugins:
    """The built-in plugins, named so that none is imported before it is needed.

    ``selectable``: name -> module of what ``--plugins`` selects. ``defaults``: of what every run has besides.
    ``folder`` has the sources of all of them. ``commands``: name -> (module, help) of a command, whose module has it as
    ``COMMAND``. ``prepare_kinds``: name -> module, which has the kind as ``KIND``. ``record_kinds``: modules with kinds
    of records, in ``RECORD_KINDS``; the first one that knows a record counts.
    """

    selectable: Mapping[str, str]
    defaults: Mapping[str, str]
    folder: Path
    commands: Mapping[str, Tuple[str, str]] = field(default_factory=dict)
    prepare_kinds: Mapping[str, str] = field(default_factory=dict)
    record_kinds: Sequence[str] = ()

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
