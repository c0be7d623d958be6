"""Finds the kind of a record: among those of the plugins of a command, the built-in ones, and the installed ones."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Dict, Iterator, List, Optional, Sequence

from pipeloom.core.base.errors import ContractError, UsageError, shown
from pipeloom.core.contract.record_kinds import Record, RecordKind
from pipeloom.core.contract.tokenizer import Tokenizer
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.command_lookup import Found, added_by, added_by_selected, installed_besides

_HOOK = "pipeloom_record_kinds"


class RecordKinds:
    """The kinds of records that a command knows, ``selected`` being the plugins that it names.

    Each method raises ``UsageError`` for a selected plugin that cannot be loaded, and ``RunError`` for a kind's fault.
    """

    def __init__(self, selected: Sequence[str] = ()) -> None:
        self._selected = list(selected)
        self._known: Dict[int, List[Found]] = {}

    def matching(self, record: Record) -> Optional[Found]:
        """Return the kind of ``record``, ``None`` for a record of no known kind.

        Raises ``UsageError`` where it is of two plugins that come equally early.
        """
        for group in self._groups():
            having = [kind for kind in group if kind.call(name_of_kind(kind), kind.value.matches, record, check=_truth)]
            if len({kind.plugin for kind in having}) > 1:
                both = " and ".join(sorted({repr(kind.plugin) for kind in having}))
                raise UsageError(f"the records are of a kind of two plugins, {both}: name one with --plugins")
            if having:
                return having[0]
        return None

    def showing(self, record: Record, tokenizer: Optional[Tokenizer]) -> Any:
        """Return ``(kind, lines)`` of the first kind that can show ``record``, ``None`` where there is none."""
        for group in self._groups():
            for kind in group:
                show = kind.value.lines
                if show is None:
                    continue
                lines = kind.call(name_of_kind(kind), show, record, tokenizer, check=_lines)
                if lines is not None:
                    return kind, lines
        return None

    def _groups(self) -> Iterator[List[Found]]:
        """Plugins that nobody has named are loaded only where no other kind will do."""
        for number, load in enumerate((lambda: added_by_selected(_HOOK, self._selected), _built_in, self._installed)):
            if number not in self._known:
                self._known[number] = load()
            yield self._known[number]

    def _installed(self) -> List[Found]:
        found, faults = added_by(_HOOK, installed_besides(self._selected))
        for fault in faults:
            print(f"pipeloom: warning: a plugin that may know these records is unusable: {fault}", file=sys.stderr)
        return found


def _built_in() -> List[Found]:
    return [Found(kind) for kind in built_in_record_kinds()]


def built_in_record_kinds() -> List[RecordKind]:
    """Return the kinds of records that pipeloom has itself."""
    return [kind for module in builtin().record_kinds for kind in import_module(module).RECORD_KINDS]


def name_of_kind(kind: Found) -> str:
    """Return what messages call a kind of records."""
    return f"its kind of records '{kind.value.name}'"


def _truth(answer: Any) -> bool:
    return bool(answer)


def _lines(answer: Any) -> Optional[List[str]]:
    if answer is None:
        return None
    if not isinstance(answer, (list, tuple)) or not all(isinstance(line, str) for line in answer):
        raise ContractError(f"its 'lines' returns {shown(answer)}, not a list of lines or None")
    return list(answer)
