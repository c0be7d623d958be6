"""Tables as people have them: TSV, CSV, JSON lines, or a text a line; with a header or without.

Which of these a file is follows from its name and its content; it may be compressed.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.text.whole_files import BLANK, json_values, kind_of, read_text

_ADVICE = "give TSV, CSV or JSON lines, with a text and a label in each row"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_JSON, _TSV, _CSV = (".json", ".jsonl", ".ndjson"), (".tsv", ".tab"), (".csv",)
#: What may stand between the fields of a CSV file, the usual one first.
_DELIMITERS = ",;\t|"
#: Characters of a field; a quote that nobody closes would take all that follows into one.
_LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class Table:
    """Rows, each with the line that it begins in (of JSON that is not in lines its number) and its values.

    ``names`` are those of the columns where the file says them; text files may have a header in their first row.
    """

    path: Path
    names: Optional[Tuple[str, ...]]
    rows: List[Tuple[int, Sequence[Any]]]

    @property
    def width(self) -> int:
        """The columns of most rows."""
        return len(self.names) if self.names is not None else _usual_width(self.rows)

    def with_header(self) -> "Table":
        """Return this table with the values of its first row as names."""
        first = self.rows[0][1]
        return Table(self.path, tuple(str(name).strip().lstrip("\ufeff") for name in first), self.rows[1:])


def read_table(path: Path, quoted: Optional[bool] = None) -> Table:
    """Read a file. ``quoted``: whether fields may stand in double quotes; by default those of CSV may, and those of TSV
    where rows have equally many fields only so.

    Raises ``UsageError`` for what is no table.
    """
    text = read_text(path, _ADVICE)
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    ending = _ending(path)
    if ending in _JSON or (text.lstrip(BLANK).startswith(("{", "[{")) and (_is_json_row(text) or ending == "")):
        return _json_table(path, text)
    if ending in _CSV:
        rows = _best_csv(path, text, quoted is not False)
    elif ending in _TSV or "\t" in text.lstrip("\r\n").split("\n", 1)[0]:
        rows = _tsv(path, text, quoted)
    else:
        rows = [(line, [value]) for line, value in _lines(text)]
    if not rows:
        raise UsageError(f"{path} has no rows; {_ADVICE}")
    return Table(path, None, rows)


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    known = (*_JSON, *_TSV, *_CSV)
    return suffixes[-1] if suffixes and suffixes[-1] in known else ""


def _lines(text: str) -> List[Tuple[int, str]]:
    """The lines with something on them. Only ends of lines end one: a text may hold U+2028 or a form feed."""
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.rstrip("\r")) for number, line in lines if line.strip(BLANK)]


def _usual_width(rows: Sequence[Tuple[int, Sequence[Any]]]) -> int:
    counts: Dict[int, int] = {}
    for _, values in rows:
        counts[len(values)] = counts.get(len(values), 0) + 1
    return max(counts, key=lambda width: counts[width])


# --- fields between delimiters


def _tsv(path: Path, text: str, quoted: Optional[bool]) -> List[Tuple[int, Sequence[Any]]]:
    if quoted:
        return _quoted(path, text, "\t")
    rows: List[Tuple[int, Sequence[Any]]] = [(number, line.split("\t")) for number, line in _lines(text)]
    if quoted is None and '"' in text and not _is_even(rows):
        try:
            other = _quoted(path, text, "\t")
        except UsageError:
            return rows  # a quote in it is a character as others are
        return other if _is_even(other) else rows
    return rows


def _is_even(rows: Sequence[Tuple[int, Sequence[Any]]]) -> bool:
    return len({len(values) for _, values in rows}) == 1


def _best_csv(path: Path, text: str, quoted: bool) -> List[Tuple[int, Sequence[Any]]]:
    """The rows by the delimiter that gives the first one the most fields; of equal ones by the usual one."""

    def split(delimiter: str) -> List[Tuple[int, Sequence[Any]]]:
        if quoted:
            return _quoted(path, text, delimiter)
        return [(number, line.split(delimiter)) for number, line in _lines(text)]

    head = text.lstrip(BLANK).split("\n", 1)[0]
    outside = "".join(head.split('"')[::2]) if quoted else head  # without what is in quotes
    return split(max(_DELIMITERS, key=outside.count))


def _quoted(path: Path, text: str, delimiter: str) -> List[Tuple[int, Sequence[Any]]]:
    """Rows whose fields may stand in double quotes, with line ends in them (RFC 4180)."""
    rows: List[Tuple[int, Sequence[Any]]] = []
    before = csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 0
    try:
        for values in reader:
            if any(value.strip(BLANK) for value in values) or len(values) > 1:
                rows.append((line + 1, values))
            line = reader.line_num
    except csv.Error as error:
        raise UsageError(
            f"{path}: the row in line {line + 1} is no CSV ({error}): a field that begins with a quote ends with one, "
            'and a quote inside is ""; where quotes are characters as others are, --quoted false'
        ) from None
    finally:
        csv.field_size_limit(before)
    return rows


# --- JSON


def _is_json_row(text: str) -> bool:
    """Whether the first line is more likely JSON than a text that begins with a bracket."""
    return text.lstrip(BLANK).startswith(('{"', '[{"', "{\n", "[\n", "{}"))


def _json_table(path: Path, text: str) -> Table:
    found: List[Tuple[int, Dict[str, Any]]] = []
    for place, value in json_values(path, text, _ADVICE):
        line = int(place[len("line ") :]) if place else 0
        items = _items(path, value)
        found += [(line or number, _row(path, line or number, item)) for number, item in enumerate(items, 1)]
    if not found:
        raise UsageError(f"{path} has no rows; {_ADVICE}")
    names = tuple(dict.fromkeys(name for _, row in found for name in row))
    return Table(path, names, [(line, [row.get(name) for name in names]) for line, row in found])


def _items(path: Path, value: Any) -> Sequence[Any]:
    """The rows that a JSON value stands for: a row, a list of rows, ``{"data": rows}``, or an object of columns."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        for key in ("data", "rows"):
            if isinstance(value.get(key), list) and all(isinstance(item, dict) for item in value[key]):
                return [item["row"] if isinstance(item.get("row"), dict) else item for item in value[key]]
        columns = list(value.values())
        if columns and all(isinstance(column, list) for column in columns):
            if len({len(column) for column in columns}) > 1:
                raise UsageError(f"{path}: its columns {', '.join(list(value)[:5])} have different numbers of values")
            return [dict(zip(value, row)) for row in zip(*columns)]
        return [value]
    raise UsageError(f"{path} is {kind_of(value)}; {_ADVICE}")


def _row(path: Path, number: int, item: Any) -> Dict[str, Any]:
    if not isinstance(item, dict):
        raise UsageError(f"{path}: row {number} is {kind_of(item)}, it must be an object with a text and a label")
    return item
