"""Rows of a table as texts with a label."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.classification.columns import ColumnNames, find_columns
from pipeloom.plugins.libraries.classification.tables import Table, read_table
from pipeloom.plugins.libraries.text.whole_files import kind_of

#: A whole number that was written as one with decimals.
_WHOLE = re.compile(r"(-?\d+)\.0*")
#: What stands where annotators did not agree (SNLI, MNLI), and where the public set keeps its labels to itself.
_NO_LABEL, _HIDDEN = "-", "-1"
_SHOWN = 3


@dataclass(frozen=True)
class LabelledText:
    """One or two texts, and their label where they have one. ``number``: of the row, from 0; ``line``: where it is."""

    number: int
    line: int
    text: str
    pair: Optional[str] = None
    label: Optional[str] = None


@dataclass
class LabelledTexts:
    """The rows of a file that are used, how its columns are called, and lines about those that are not used."""

    path: Path
    rows: List[LabelledText]
    columns: str
    has_pairs: bool
    left_out: Dict[str, List[int]] = field(default_factory=dict)

    @property
    def has_labels(self) -> bool:
        """Whether they have labels: all of them, or none has."""
        return bool(self.rows) and self.rows[0].label is not None

    def leave_out(self, reason: str, line: int) -> None:
        self.left_out.setdefault(reason, []).append(line)

    def notes(self) -> List[str]:
        """Return a line for each reason for which rows are left out."""
        return [
            f"{len(lines)} row{'s' if len(lines) > 1 else ''} of {self.path} left out, {reason}: line "
            f"{', '.join(map(str, lines[:_SHOWN]))}{', ...' if len(lines) > _SHOWN else ''}"
            for reason, lines in self.left_out.items()
        ]


def read_rows(path: Path, asked: ColumnNames, quoted: Optional[bool] = None, with_labels: bool = True) -> LabelledTexts:
    """Read the texts and labels of a file.

    Where some rows have labels those without are left out; where none has, or not ``with_labels``, all are there, to be
    predicted. Raises ``UsageError``, with the line, for a value that is none.
    """
    table, columns = find_columns(read_table(path, quoted), asked)
    found = LabelledTexts(path, [], columns.describe(table), columns.pair is not None)
    width, label_place = table.width, columns.label if with_labels else None
    rows: List[LabelledText] = []
    for number, (line, values) in enumerate(table.rows):
        reason = _misfit(values, width, (columns.text, columns.pair, label_place))
        if reason is not None:
            found.leave_out(reason, line)
            continue
        text = _text_of(table, line, values, columns.text)
        pair = None if columns.pair is None else _text_of(table, line, values, columns.pair)
        label = None if label_place is None else _label_of(table, line, values, label_place)
        rows.append(LabelledText(number, line, text, pair, label))
    found.rows = _used(rows, found)
    if not found.rows:
        why = "; ".join(found.notes())
        raise UsageError(f"{path} has no row that can be used" + (f": {why}" if why else ""))
    return found


def _used(rows: Sequence[LabelledText], found: LabelledTexts) -> List[LabelledText]:
    """The rows with labels, without those that have none; all, where none has: public test sets keep them hidden."""
    if {row.label for row in rows} <= {None, _NO_LABEL, _HIDDEN}:
        return [replace(row, label=None) for row in rows]
    used = []
    for row in rows:
        reason = _why_not(row)
        if reason is None:
            used.append(row)
        else:
            found.leave_out(reason, row.line)
    return used


def _misfit(values: Sequence[Any], width: int, places: Sequence[Optional[int]]) -> Optional[str]:
    if len(values) <= max(place for place in places if place is not None):
        return f"with fewer than the {width} columns of others"
    if any(values[width:]):
        return f"with more than the {width} columns of others"
    return None


def _why_not(row: LabelledText) -> Optional[str]:
    if row.label == _NO_LABEL:
        return "whose label is '-'"
    if row.label is None:
        return "without a label"
    return "without a text" if not (row.text.strip() or (row.pair or "").strip()) else None


def _text_of(table: Table, line: int, values: Sequence[Any], place: int) -> str:
    value = values[place]
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        raise _error(table, line, place, f"is {kind_of(value)}, it must be text")
    return whole(value if isinstance(value, str) else str(value))


def _label_of(table: Table, line: int, values: Sequence[Any], place: int) -> Optional[str]:
    value = values[place]
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (dict, list)):
        what = "several labels" if isinstance(value, list) else kind_of(value)
        raise _error(table, line, place, f"is {what}; each row has one label, a name or a number")
    return canonical(whole(str(value))) or None


def _error(table: Table, line: int, place: int, text: str) -> UsageError:
    name = table.names[place] if table.names is not None else place + 1
    return UsageError(f"{table.path}: column {name} in line {line} {text}")


def canonical(label: str) -> str:
    """Return a label as it is compared: without white space around it, and ``1.0`` as ``1``."""
    label = label.strip()
    match = _WHOLE.fullmatch(label)
    return match.group(1) if match else label


def unique(labels: Sequence[str]) -> Tuple[List[str], Dict[str, int]]:
    """Return the different labels in the order in which they come, and the number of each."""
    numbers: Dict[str, int] = {}
    for label in labels:
        numbers.setdefault(label, len(numbers))
    return list(numbers), numbers
