"""Files with questions as people have them: SQuAD's nesting, or the flat rows that other tools make of it.

Read are SQuAD's own JSON (``{"data": [{"paragraphs": [{"context", "qas"}]}]}``), any part of that nesting by itself,
rows with a question and its context each, as HuggingFace's ``datasets`` has them (an array, JSON lines, ``{"data":
rows}``, the rows of its viewer), and columns (an object of lists, or what pandas writes). A file may be compressed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.text.whole_files import KINDS, json_values, kind_of, read_text

_ADVICE = "give a SQuAD JSON file, for instance train-v1.1.json, or JSON lines with context, question and answers"

#: Kinds of data that are not read here, by the keys that one of their objects has.
_FOREIGN: Sequence[Tuple[str, Tuple[str, ...]]] = (
    ("MRQA", ("header",)),
    ("MRQA", ("detected_answers",)),
    ("TyDi QA", ("annotations", "document_plaintext")),
    *(("Natural Questions", ("annotations", f"document{what}")) for what in ("_html", "_text", "_tokens", "")),
    ("TriviaQA", ("Data",)),
    ("TriviaQA", ("entity_pages",)),
    ("HotpotQA", ("supporting_facts",)),
    ("CoQA", ("story", "questions")),
    ("DROP", ("passage", "qa_pairs")),
    ("BoolQ", ("passage", "question")),
    ("RACE", ("article", "options")),
    ("NewsQA", ("storyId",)),
    ("MS MARCO", ("passages", "query")),
    ("DuReader", ("documents", "question")),
    ("CMRC 2018 in its own form", ("context_text",)),
)


@dataclass(frozen=True)
class Entry:
    """One question as its file has it.

    ``fields`` are the values beside it (question, id, answers ...); ``context`` is its text, ``None`` where there is
    none; ``where`` names file and place.
    """

    where: str
    fields: Mapping[str, Any]
    context: Optional[str]

    def value(self, key: str, wanted: Type) -> Any:
        """The field ``key``, of the type ``wanted``. Raises ``UsageError`` naming the place."""
        return value_of(self.fields, self.where, key, wanted)

    def error(self, key: str, found: Any, wanted: str) -> UsageError:
        """The line about a field of a wrong kind."""
        return UsageError(f"{self.where} has a '{key}' that is {kind_of(found)}, it must be {wanted}")


class Source:
    """The questions of one file, and what it says of its version, which is known once they were walked through."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._versions: List[str] = []

    def has_version(self, major: str) -> bool:
        """Whether it says that it is of SQuAD's version ``major``: as "2", "v2.0", 2.0."""
        return any(re.fullmatch(rf"v?{major}(\.\d+)*", version, re.IGNORECASE) for version in self._versions)

    def entries(self) -> Iterator[Entry]:
        """Each question in the order of the file. Raises ``UsageError``, with the place, where it is none."""
        for place, document in json_values(self.path, read_text(self.path, _ADVICE), _ADVICE):
            yield from self._document(document, place)

    def _document(self, document: Any, place: str) -> Iterator[Entry]:
        """What a whole file or a line of one may be."""
        if isinstance(document, list):
            yield from self._items(document, place)
            return
        if not isinstance(document, dict):
            raise UsageError(
                f"{self._where(place)} is {kind_of(document)}, a SQuAD file is an object with the key 'data'"
            )
        self._refuse_foreign(document, place)
        if document.get("version") is not None:
            self._versions.append(str(document["version"]))
        if isinstance(document.get("columns"), list) and "data" in document:  # pandas: orient="split"
            names, rows = document["columns"], self._value(document, place, "data", list)
            if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
                raise UsageError(f"{self._where(place)} has rows in 'data' without a value for each of 'columns'")
            yield from self._items([dict(zip(map(str, names), row)) for row in rows], _inside(place, "data"))
        elif isinstance(document.get("rows"), list):  # the viewer of HuggingFace's data sets
            rows = [item.get("row") if isinstance(item, dict) else item for item in document["rows"]]
            yield from self._items(rows, _inside(place, "rows"))
        elif document and all(isinstance(value, dict) and _is_item(value) for value in document.values()):
            yield from self._items(list(document.values()), place)  # pandas: orient="index"
        elif _is_table(document):
            yield from self._items(self._rows_of_columns(document), place)
        elif "data" in document or not _is_item(document):
            yield from self._items(self._value(document, place, "data", list), _inside(place, "data"))
        else:
            yield from self._item(document, place)

    def _items(self, items: Sequence[Any], place: str) -> Iterator[Entry]:
        for index, item in enumerate(items):
            here = f"{place}[{index}]"
            if not isinstance(item, dict):
                raise UsageError(f"{self.path}: {here} is {kind_of(item)}, it must be an object with keys")
            yield from self._item(item, here)

    def _item(self, item: Mapping[str, Any], place: str) -> Iterator[Entry]:
        """An article, a paragraph or a row."""
        self._refuse_foreign(item, place)
        if "qas" in item:
            yield from self._paragraph(item, place)
        elif "question" in item:
            yield Entry(self._where(place), item, self._context(item, place))
        else:
            for index, paragraph in enumerate(self._value(item, place, "paragraphs", list)):
                here = f"{_inside(place, 'paragraphs')}[{index}]"
                if not isinstance(paragraph, dict):
                    raise UsageError(f"{self.path}: {here} is {kind_of(paragraph)}, it must be an object with keys")
                yield from self._paragraph(paragraph, here)

    def _paragraph(self, paragraph: Mapping[str, Any], place: str) -> Iterator[Entry]:
        context = self._context(paragraph, place) if "context" in paragraph else None
        for index, entry in enumerate(self._value(paragraph, place, "qas", list)):
            here = f"{_inside(place, 'qas')}[{index}]"
            if not isinstance(entry, dict):
                raise UsageError(f"{self.path}: {here} is {kind_of(entry)}, it must be an object with keys")
            self._refuse_foreign(entry, here)
            yield Entry(self._where(here), entry, context)

    def _context(self, item: Mapping[str, Any], place: str) -> Optional[str]:
        return None if item.get("context", "") is None else self._value(item, place, "context", str)

    def _rows_of_columns(self, table: Mapping[str, Any]) -> List[Dict[str, Any]]:
        """An object of columns, each a list or an object by row, as rows."""
        columns = {name: _column(value) for name, value in table.items() if isinstance(value, (list, dict))}
        count = len(columns["question"])
        for name, column in columns.items():
            if len(column) != count:
                raise UsageError(
                    f"{self.path}: it has {count} values of 'question' and {len(column)} of '{name}': a "
                    "column has one for each row"
                )
        return [{name: column[row] for name, column in columns.items()} for row in range(count)]

    def _refuse_foreign(self, item: Mapping[str, Any], place: str) -> None:
        for name, keys in _FOREIGN:
            if all(key in item for key in keys):
                raise UsageError(
                    f"{self._where(place)} has the keys of {name}, which is not read here: make it SQuAD, "
                    "with a context, a question and answers of text and answer_start for each"
                )

    def _where(self, place: str) -> str:
        return f"{self.path}: {place or 'it'}"

    def _value(self, value: Any, place: str, key: str, wanted: Type) -> Any:
        return value_of(value, self._where(place), key, wanted)


def value_of(fields: Mapping[str, Any], where: str, key: str, wanted: Type) -> Any:
    """The value of ``key``, of the type ``wanted``. Raises ``UsageError``, which names ``where``."""
    if key not in fields:
        known = ", ".join(map(str, list(fields)[:8])) or "none at all"
        raise UsageError(f"{where} has no '{key}' (its keys: {known}); {_ADVICE}")
    found = fields[key]
    # true is a whole number to Python, and none to JSON
    if not isinstance(found, wanted) or (wanted is int and isinstance(found, bool)):
        raise UsageError(f"{where} has a '{key}' that is {kind_of(found)}, it must be {KINDS[wanted]}")
    return found


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _is_item(document: Mapping[str, Any]) -> bool:
    return any(key in document for key in ("paragraphs", "qas", "question"))


def _is_table(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("question"), (list, dict)) and isinstance(document.get("context"), (list, dict))


def _column(value: Any) -> List[Any]:
    """The values of a column, row by row. Answers may be columns themselves: ``{"text": [], "answer_start": []}``."""
    if isinstance(value, list):
        return value
    lengths = {len(column) if isinstance(column, list) else None for column in value.values()}
    if set(value) >= {"text", "answer_start"} and len(lengths) == 1 and None not in lengths:
        return [dict(zip(value, row)) for row in zip(*value.values())]
    return list(value.values())
