"""Documents in JSON: an object a line, arrays of objects or of texts, one value after another over many lines."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Iterator, Optional, Tuple

from pipeloom.plugins.libraries.corpus.documents import (
    Document,
    ExtractedPage,
    ReadingSettings,
    SentenceDocument,
    TextDocument,
)
from pipeloom.plugins.libraries.corpus.markup import MarkupWatch
from pipeloom.plugins.libraries.corpus.streams import BadInput, InputStream

_KEYS_SHOWN = 12
_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r\ufeff"
_SKIP = "correct it, or leave such {}s out with --bad_input skip"


class JsonDocuments:
    """The documents of a JSON file: of an object the value of ``text_key``, a string or a list of sentences.

    In an array also strings and lists of sentences are documents; in JSON lines there is one object a line. The pairs
    of lines of a CirrusSearch dump are known: what indexes a page is no document, pages of other namespaces are left
    out. ``watch`` sees all text.
    """

    def __init__(self, stream: InputStream, settings: ReadingSettings, counts: Counter, watch: MarkupWatch) -> None:
        self._stream, self._settings, self._counts, self._watch = stream, settings, counts, watch
        self._cirrus = False

    def __iter__(self) -> Iterator[Document]:
        key, skip = self._settings.text_key, self._settings.skip_bad
        number, unit = 0, ""
        for number, unit, value, wrong in self._values():
            if isinstance(value, dict) and (not wrong) and self._is_index(value):
                continue
            document, reason = (None, wrong) if wrong else self._document(value, unit == "line")
            if document is not None:
                yield document
            elif reason == "other namespace":
                self._counts["pages of other namespaces"] += 1
            elif skip:
                self._counts[f'{unit}s that are no JSON object with "{key}"'] += 1
            else:
                raise BadInput(
                    f'{self._stream.path} {unit} {number}: is no JSON object with "{key}" (a string or a list of '
                    f"sentences){reason}",
                    _SKIP.format(unit),
                )
        if not number:
            self._counts["empty files"] += 1

    # --- the values of a file

    def _values(self) -> Iterator[Tuple[int, str, Any, str]]:
        """Number, "line" or "element", value, and what is wrong where there is none."""
        head = self._stream.head().decode("utf-8-sig", "replace").lstrip()
        first = head.partition("\n")[0].rstrip()
        many_lines = head.startswith("[") or head.startswith("{") and first.endswith(("{", "[", ",", ":"))
        return self._elements() if many_lines else self._lines()

    def _lines(self) -> Iterator[Tuple[int, str, Any, str]]:
        longest = self._settings.longest
        for number, line in enumerate(self._stream.lines(longest), start=1):
            line = line.strip(_SPACE)
            if not line:
                continue
            try:
                yield number, "line", json.loads(line), ""
            except (ValueError, RecursionError):
                yield (
                    number,
                    "line",
                    None,
                    f" or longer than --max_characters {longest}" if len(line) >= longest else "",
                )

    def _elements(self) -> Iterator[Tuple[int, str, Any, str]]:
        """The elements of all arrays, and the values outside of arrays, in memory for one of them."""
        text = _Buffer(self._stream.pieces(), self._settings.longest)
        number, depth = 0, 0
        while True:
            character = text.peek(_SPACE + ",")
            if not character:
                break
            if character == "[" and depth == 0 or character == "]" and depth == 1:
                depth = 1 - depth
                text.skip()
                continue
            number += 1
            try:
                value = text.value()
            except (ValueError, RecursionError):
                raise BadInput(
                    f"{self._stream.path} element {number}: no well-formed JSON, or longer than --max_characters "
                    f"{self._settings.longest}"
                ) from None
            yield number, "element", value, ""
        if depth:
            raise BadInput(f"{self._stream.path}: the file ends inside a JSON array")

    # --- what a value is

    def _is_index(self, value: Any) -> bool:
        if set(value) == {"index"} and isinstance(value["index"], dict) and "_id" in value["index"]:
            self._cirrus = True
            return True
        return False

    def _document(self, value: Any, line: bool) -> Tuple[Optional[Document], str]:
        """The document, or what is wrong."""
        if isinstance(value, dict):
            if self._cirrus and value.get("namespace", 0) != 0:
                return None, "other namespace"
            found, missing = self._lookup(value)
            if missing:
                return None, missing
            if (
                isinstance(found, str)
                and "?curid=" in str(value.get("url", ""))
                and isinstance(value.get("title"), str)
            ):
                return ExtractedPage(value["title"], found), ""
            return self._text(found, f'; its "{self._settings.text_key}" is')
        return (None, "") if line else self._text(value, "; it is")

    def _text(self, found: Any, what: str) -> Tuple[Optional[Document], str]:
        if isinstance(found, str):
            self._watch.look(found)
            return TextDocument(tuple(found.split("\n\n"))), ""
        if isinstance(found, list) and all(isinstance(sentence, str) for sentence in found):
            for sentence in found:
                self._watch.look(sentence)
            return SentenceDocument(tuple(found)), ""
        kinds = {
            dict: "an object",
            list: "a list of other things than strings",
            bool: "true or false",
            type(None): "null",
        }
        return None, f"{what} {kinds.get(type(found), 'a number')}"

    def _lookup(self, value: Any) -> Tuple[Any, str]:
        key = self._settings.text_key
        if key in value:
            return value[key], ""
        found: Any = value
        for name in key.split("."):
            if not isinstance(found, dict) or name not in found:
                return None, self._missing(value)
            found = found[name]
        return found, ""

    def _missing(self, value: Any) -> str:
        """Which keys there are, and the one that is likely meant: that of the longest string."""
        names = ", ".join(map(str, list(value)[:_KEYS_SHOWN])) + (" ..." if len(value) > _KEYS_SHOWN else "")
        strings = {name: len(found) for name, found in _strings(value) if " " in found}
        best = max(strings, key=lambda name: strings[name], default="")
        return f"; it has {names or 'no keys'}{f': perhaps --text_key {best}' if best else ''}"


def _strings(value: Any) -> Iterator[Tuple[str, str]]:
    """The strings of an object and of the objects in it, by their keys."""
    for name, found in value.items():
        if isinstance(found, str):
            yield name, found
        elif isinstance(found, dict):
            yield from ((f"{name}.{inner}", text) for inner, text in found.items() if isinstance(text, str))


class _Buffer:
    """The text of ``pieces``, of which not much more than ``longest`` characters are in memory."""

    def __init__(self, pieces: Iterator[str], longest: int) -> None:
        self._pieces, self._longest = pieces, longest
        self._text, self._place, self._ended = "", 0, False

    def peek(self, skipped: str) -> str:
        """The next character that is none of ``skipped``; nothing at the end."""
        while True:
            while self._place < len(self._text):
                if self._text[self._place] not in skipped:
                    return self._text[self._place]
                self._place += 1
            if not self._more(1):
                return ""

    def skip(self) -> None:
        self._place += 1

    def value(self) -> Any:
        """The JSON value that begins here. Raises ``ValueError`` for what is none, or is too long."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._place = end
                    return value
            except ValueError:
                if self._ended or len(self._text) - self._place > self._longest:
                    raise
            # Twice as much each time: trying again takes no more time than reading.
            self._more(max(1, len(self._text) - self._place))

    def _more(self, least: int) -> bool:
        """Read at least so many characters on, where there are any."""
        found = [self._text[self._place :]]
        self._place, size = 0, 0
        while size < least and not self._ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
            else:
                found.append(piece)
                size += len(piece)
        self._text = "".join(found)
        return size > 0
