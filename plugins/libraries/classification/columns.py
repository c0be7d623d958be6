"""Which columns of a table hold the texts and the label: as the user says, else by the names that public sets have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.plugins.libraries.classification.tables import Table

#: Columns with the label, the one to prefer first.
LABELS = (
    *("gold_label", "label", "labels", "score", "quality", "is_duplicate", "class", "category", "target", "sentiment"),
    *("stars", "rating", "similarity", "relatedness_score", "label_text"),
)
#: Pairs of texts as GLUE, SuperGLUE and others name them.
PAIRS = (
    *(("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("question", "sentence")),
    *(("question", "passage"), ("#1_string", "#2_string"), ("text1", "text2"), ("text_a", "text_b")),
    *(("sentence_a", "sentence_b"), ("title", "description"), ("query", "document")),
)
#: Texts that stand alone.
TEXTS = (
    *("sentence", "text", "content", "review", "tweet", "headline", "comment", "utterance", "question", "document"),
    *("body", "title", "query", "description"),
)
#: Numbers of rows and of sources, which no text is.
NUMBERS = ("index", "idx", "id", "guid", "pairid", "promptid", "unnamed:_0", "")
_KNOWN = {*LABELS, *TEXTS, *(name for pair in PAIRS for name in pair), "index", "idx"}
#: CoLA's columns where it has no header: source, label, the author's mark, sentence.
_COLA = 4
_LOOKED_AT = 1000


@dataclass(frozen=True)
class ColumnNames:
    """What the user says: names of columns, or their numbers from 1; and whether the first row is a header."""

    text: Optional[str] = None
    pair: Optional[str] = None
    label: Optional[str] = None
    header: Optional[bool] = None


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by number from 0, that hold a text, perhaps another one, and perhaps a label."""

    text: int
    pair: Optional[int]
    label: Optional[int]

    def describe(self, table: Table) -> str:
        """Say which columns are read, by their names, or by their numbers from 1."""
        parts = (("text", self.text), ("text pair", self.pair), ("label", self.label))
        names = table.names
        return ", ".join(
            f"{what} {names[place] if names is not None else place + 1}" for what, place in parts if place is not None
        )


def find_columns(table: Table, asked: ColumnNames) -> Tuple[Table, Columns]:
    """Return the table, whose header is no row by then, and its columns. Raises ``UsageError`` where nobody can say."""
    if table.names is None and _has_header(table, asked):
        table = table.with_header()
        if not table.rows:
            raise UsageError(f"{table.path} has a header and no row behind it")
    text = _asked(table, asked.text, "--text_column")
    pair = _asked(table, asked.pair, "--text_pair_column")
    label = _asked(table, asked.label, "--label_column")
    if table.names is None:
        columns = _by_place(table, text, pair, label)
    else:
        columns = _by_name(table, text, pair, label)
    places = [place for place in (columns.text, columns.pair, columns.label) if place is not None]
    if len(set(places)) < len(places):
        raise UsageError(f"{table.path}: one column is asked for twice ({columns.describe(table)})")
    return table, columns


def _has_header(table: Table, asked: ColumnNames) -> bool:
    if asked.header is not None:
        return asked.header
    first = [_plain(value) for value in table.rows[0][1]]
    wanted = [_plain(name) for name in (asked.text, asked.pair, asked.label) if name and not name.isdecimal()]
    return any(name in first for name in wanted) or any(name in _KNOWN for name in first)


def _plain(name: Any) -> str:
    return str(name).strip("\ufeff \t\"'").lower().replace(" ", "_").replace("-", "_")


def _asked(table: Table, name: Optional[str], option: str) -> Optional[int]:
    """The column that an option names. Raises ``UsageError`` where there is none."""
    if name is None:
        return None
    names = table.names or ()
    for same in (lambda other: other == name, lambda other: _plain(other) == _plain(name)):
        found = [place for place, other in enumerate(names) if same(other)]
        if found:
            return found[0]
    if name.isdecimal() and 1 <= int(name) <= table.width:
        return int(name) - 1
    there = f"it has {_listed(names)}" if names else f"it has no header and {table.width} columns: give a number from 1"
    raise UsageError(f"{option} {name}: {table.path} has no such column{did_you_mean(name, names)}; {there}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _by_name(table: Table, text: Optional[int], pair: Optional[int], label: Optional[int]) -> Columns:
    names = [_plain(name) for name in table.names or ()]

    def place(name: str) -> Optional[int]:
        return names.index(name) if name in names else None

    if label is None:
        known = [place(name) for name in LABELS if name in names]
        label = next((column for column in known if column not in (text, pair)), None)
    if text is not None:
        return Columns(text, pair, label)
    for first, second in PAIRS if pair is None else ():
        if first in names and second in names and label not in (place(first), place(second)):
            return Columns(names.index(first), names.index(second), label)
    singles = [place(name) for name in TEXTS if name in names]
    # A pair that the user named the second half of begins with what is usual there.
    begins = [place(first) for first, second in PAIRS if pair is not None and names[pair] == second and first in names]
    others = [column for column, name in enumerate(names) if column not in (label, pair) and name not in NUMBERS]
    candidates = [*begins, *singles, *(others if len(others) == 1 else ())]
    found = next((column for column in candidates if column not in (label, pair, None)), None)
    if found is None:
        raise UsageError(
            f"{table.path}: which of its columns is the text? say it with --text_column (and --text_pair_column, "
            f"--label_column); it has {_listed(table.names or ())}"
        )
    return Columns(found, pair, label)


def _by_place(table: Table, text: Optional[int], pair: Optional[int], label: Optional[int]) -> Columns:
    width, rows = table.width, [values for _, values in table.rows[:_LOOKED_AT]]
    if text is not None:
        return Columns(text, pair, label)
    if width == _COLA and label is None and pair is None and all(_is_cola(values) for values in rows):
        return Columns(3, None, 1)
    if label is None and width in (2, 3):
        # The label is first or last, and shorter than texts are.
        label = min((0, width - 1), key=lambda place: _mean_length(rows, place))
    free = [place for place in range(width) if place not in (label, pair)]
    if len(free) == 1:
        return Columns(free[0], pair, label)
    if len(free) == 2 and pair is None and label is not None:
        return Columns(free[0], free[1], label)
    raise UsageError(
        f"{table.path} has {width} columns and no header that is known: say which is the text with --text_column 2 "
        "(numbers from 1; also --text_pair_column, --label_column), or --header true"
    )


def _is_cola(values: Sequence[Any]) -> bool:
    return len(values) == _COLA and values[1] in ("0", "1") and values[2] in ("", "*")


def _mean_length(rows: Sequence[Sequence[Any]], place: int) -> float:
    lengths = [len(str(values[place])) for values in rows if len(values) > place]
    return sum(lengths) / max(1, len(lengths))
