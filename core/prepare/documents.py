"""The documents of input files: a MediaWiki dump, JSON lines or plain text, told apart by what a file begins with."""
from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

from pipeloom.core.errors import UsageError
from pipeloom.core.prepare.streams import BadInput, InputStream
from pipeloom.core.prepare.wiki_dump import WikiDump, WikiPage

#: How a plain text file is cut into documents.
TEXT_DOCUMENTS = ("file", "blank_lines")
_XML = re.compile(rb"\s*<(\?xml|mediawiki)")


@dataclass(frozen=True)
class TextDocument:
    """A document as paragraphs of plain text."""

    paragraphs: Tuple[str, ...]

    @property
    def characters(self) -> int:
        return sum(map(len, self.paragraphs))


@dataclass(frozen=True)
class SentenceDocument:
    """A document whose sentences are known."""

    sentences: Tuple[str, ...]

    @property
    def characters(self) -> int:
        return sum(map(len, self.sentences))


Document = Union[WikiPage, TextDocument, SentenceDocument]


@dataclass(frozen=True)
class ReadingSettings:
    """``longest``: the most characters of one document; ``text_documents``: one of ``TEXT_DOCUMENTS``;
    ``skip_bad``: count a damaged input instead of raising."""

    longest: int = 10_000_000
    text_documents: str = "file"
    skip_bad: bool = False


class DocumentReader:
    """All documents of one file, in their order. ``counts`` says what was left out or repaired, ``bytes_read`` how far it came.

    Raises ``UsageError`` where the file cannot be opened or is no text, :class:`BadInput` where it breaks off.
    """

    def __init__(self, path: Path, settings: ReadingSettings, counts: Counter) -> None:
        self.path, self._settings, self._counts = path, settings, counts
        self._stream: Optional[InputStream] = None

    @property
    def bytes_read(self) -> int:
        return self._stream.bytes_read if self._stream is not None else 0

    def __iter__(self) -> Iterator[Document]:
        self._stream = InputStream(self.path)
        try:
            yield from self._documents(self._stream)
        except BadInput as error:
            if not self._settings.skip_bad:
                raise
            self._counts[f"damaged inputs, read as far as they went ({error.what})"] += 1
        finally:
            if self._stream.replaced:
                self._counts["places that are no UTF-8, U+FFFD put there"] += self._stream.replaced
            self._stream.close()

    def _documents(self, stream: InputStream) -> Iterator[Document]:
        head = stream.head()
        if b"\0" in head:
            raise UsageError(f"{self.path} is no UTF-8 text; give a MediaWiki dump, JSON lines or plain text, perhaps compressed by bz2, gzip or xz")
        head = head[3:] if head.startswith(b"\xef\xbb\xbf") else head
        if _XML.match(head):
            return iter(WikiDump(stream, self._settings.longest, self._counts))
        if head.lstrip().startswith(b"{"):
            return self._json_lines(stream)
        return self._plain_text(stream)

    def _json_lines(self, stream: InputStream) -> Iterator[Document]:
        """Objects with ``text``: a string, or a list of sentences."""
        longest = self._settings.longest
        for number, line in enumerate(stream.lines(longest), start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (ValueError, LookupError, TypeError, RecursionError):
                text = None
            if isinstance(text, str):
                yield TextDocument(tuple(text.split("\n\n")))
            elif isinstance(text, list) and all(isinstance(sentence, str) for sentence in text):
                yield SentenceDocument(tuple(text))
            elif self._settings.skip_bad:
                self._counts['lines that are no JSON object with "text"'] += 1
            else:
                long = f" or longer than --max_characters {longest}" if len(line) >= longest else ""
                raise BadInput(f'{self.path} line {number}: is no JSON object with "text" (a string or a list of sentences){long}',
                               "correct it, or leave such lines out with --bad_input skip")

    def _plain_text(self, stream: InputStream) -> Iterator[Document]:
        """Paragraphs end at blank lines; each is a document, or all of them together are one."""
        one_file = self._settings.text_documents == "file"
        paragraphs: List[str] = []
        size = 0
        for paragraph in self._paragraphs(stream):
            if paragraphs and (not one_file or size + len(paragraph) > self._settings.longest):
                if one_file:
                    self._counts["documents cut at --max_characters"] += 1
                yield TextDocument(tuple(paragraphs))
                paragraphs, size = [], 0
            paragraphs.append(paragraph)
            size += len(paragraph)
        if paragraphs:
            yield TextDocument(tuple(paragraphs))
        else:
            self._counts["empty files"] += 1

    def _paragraphs(self, stream: InputStream) -> Iterator[str]:
        """Lines between blank lines, joined: the lines of a book are wrapped anywhere."""
        longest = self._settings.longest
        lines: List[str] = []
        size = 0
        for line in stream.lines(longest):
            line = line.strip()
            if lines and (not line or size + len(line) > longest):
                yield " ".join(lines)
                lines, size = [], 0
            if line:
                lines.append(line)
                size += len(line) + 1
        if lines:
            yield " ".join(lines)
