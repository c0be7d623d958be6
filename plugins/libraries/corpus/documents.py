"""The documents of input files: a MediaWiki dump, WikiExtractor's output, JSON or plain text, told apart by what is in
a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

from pipeloom.plugins.libraries.corpus import formats
from pipeloom.plugins.libraries.corpus.markup import MarkupWatch, warn
from pipeloom.plugins.libraries.corpus.streams import BadInput, InputStream
from pipeloom.plugins.libraries.corpus.wiki_dump import WikiDump, WikiPage

#: How a plain text file is cut into documents.
TEXT_DOCUMENTS = ("file", "blank_lines", "lines", "sentences")


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


@dataclass(frozen=True)
class ExtractedPage:
    """An article as WikiExtractor writes it: one paragraph a line, ``&lt;`` for ``<``, and what it could not take
    out."""

    title: str
    text: str

    @property
    def characters(self) -> int:
        return len(self.text)


Document = Union[WikiPage, ExtractedPage, TextDocument, SentenceDocument]


@dataclass(frozen=True)
class ReadingSettings:
    """``longest``: the most characters of one document; ``text_documents``: one of ``TEXT_DOCUMENTS``; ``skip_bad``:
    count a damaged input instead of raising; ``text_key``: where in a JSON object its text is, ``a.b`` for the ``b`` of
    the object ``a``; ``verbatim``: plain text keeps its lines and the space in them, where else lines are joined to
    paragraphs."""

    longest: int = 10_000_000
    text_documents: str = "file"
    skip_bad: bool = False
    text_key: str = "text"
    verbatim: bool = False


class DocumentReader:
    """All documents of one file, in their order. ``counts`` says what was left out or repaired, ``bytes_read`` how far
    it came.

    Raises ``UsageError`` where the file cannot be opened or is no text, :class:`BadInput` where it breaks off.
    """

    def __init__(self, path: Path, settings: ReadingSettings, counts: Counter) -> None:
        self.path, self._settings, self._counts = path, settings, counts
        self._stream: Optional[InputStream] = None

    @property
    def bytes_read(self) -> int:
        return self._stream.bytes_read if self._stream is not None else 0

    def check(self) -> None:
        """Raise ``UsageError`` where the file cannot be opened or is of no kind that is read; nothing more of it is
        read."""
        stream = InputStream(self.path)
        try:
            self._kind(stream)
        except BadInput:  # what came before the damage may do
            pass
        finally:
            stream.close()

    def __iter__(self) -> Iterator[Document]:
        self._stream = InputStream(self.path)
        try:
            yield from self._documents(self._stream)
        except BadInput as error:
            if not self._settings.skip_bad:
                raise
            self._counts[f"damaged inputs, read as far as they went ({error.what})"] += 1
            warn(f"{error.what}; read as far as it went")
        except formats.NoText as error:
            if not self._settings.skip_bad:
                raise
            self._counts[f"files that are no text ({error.what})"] += 1
            warn(f"{self.path} is left out, it is {error.what}")
        finally:
            self._count_repairs(self._stream)
            self._stream.close()

    def _count_repairs(self, stream: InputStream) -> None:
        repaired = {"places that are no UTF-8, U+FFFD put there": stream.replaced, "NUL characters": stream.nuls}
        for what, count in repaired.items():
            if count:
                self._counts[what] += count
                warn(f"{self.path}: {count:,} {what}")

    def _kind(self, stream: InputStream) -> str:
        return formats.kind_of(self.path, stream.head(formats.HEAD_BYTES), self._settings.skip_bad)

    def _documents(self, stream: InputStream) -> Iterator[Document]:
        kind = self._kind(stream)
        if kind == formats.DUMP:
            return iter(WikiDump(stream, self._settings.longest, self._counts))
        if kind == formats.EXTRACTED:
            from pipeloom.plugins.libraries.corpus.wikiextractor import extracted_pages

            return extracted_pages(stream, self._settings.longest, self._counts)
        watch = MarkupWatch(self.path, self._counts)
        if kind == formats.JSON:
            from pipeloom.plugins.libraries.corpus.json_documents import JsonDocuments

            return self._watched(iter(JsonDocuments(stream, self._settings, self._counts, watch)), watch)
        lines = stream.lines(self._settings.longest)
        if kind == formats.GUTENBERG:
            lines = self._book(lines)
        return self._watched(self._plain_text(self._looked_at(lines, watch)), watch)

    @staticmethod
    def _watched(documents: Iterator[Document], watch: MarkupWatch) -> Iterator[Document]:
        yield from documents
        watch.finish()

    def _looked_at(self, lines: Iterator[str], watch: MarkupWatch) -> Iterator[str]:
        """Lines without the byte-order mark that files which were put together have inside, nor, unless they are
        wanted as they are, space around them.
        """
        for line in lines:
            line = line.replace("\ufeff", "")
            line = line if self._settings.verbatim else line.strip()
            watch.look(line)
            yield line

    def _book(self, lines: Iterator[str]) -> Iterator[str]:
        """What is between the lines that Project Gutenberg puts around a book."""
        inside = False
        for line in lines:
            if formats.GUTENBERG_START.match(line):
                inside = True
                self._counts["licences of Project Gutenberg around a book"] += 1
                yield ""
            elif formats.GUTENBERG_END.match(line):
                inside = False
            elif inside:
                yield line

    def _plain_text(self, lines: Iterator[str]) -> Iterator[Document]:
        ways = {"sentences": self._sentences, "lines": self._single_lines}
        if self._settings.verbatim:
            documents = self._verbatim
        else:
            documents = ways.get(self._settings.text_documents, self._paragraph_documents)
        document = None
        for document in documents(lines):
            yield document
        if document is None:
            self._counts["empty files"] += 1

    def _verbatim(self, lines: Iterator[str]) -> Iterator[Document]:
        """Lines as they are, up to the end of a document: that of the file, a blank line, or each line's own."""
        ends_at_blank = self._settings.text_documents in ("blank_lines", "sentences")
        single = self._settings.text_documents == "lines"
        kept: List[str] = []
        size = 0
        for line in lines:
            too_long = kept and size + len(line) > self._settings.longest
            if too_long or kept and (single or ends_at_blank and not line.strip()):
                if too_long:
                    self._counts["documents cut at --max_characters"] += 1
                yield TextDocument(("\n".join(kept),))
                kept, size = [], 0
            if kept or line.strip():
                kept.append(line)
                size += len(line) + 1
        if kept:
            yield TextDocument(("\n".join(kept),))

    @staticmethod
    def _single_lines(lines: Iterator[str]) -> Iterator[Document]:
        return (TextDocument((line,)) for line in lines if line)

    def _sentences(self, lines: Iterator[str]) -> Iterator[Document]:
        """A sentence a line; a document ends at a blank line."""
        sentences: List[str] = []
        size = 0
        for line in lines:
            if sentences and (not line or size + len(line) > self._settings.longest):
                if line:
                    self._counts["documents cut at --max_characters"] += 1
                yield SentenceDocument(tuple(sentences))
                sentences, size = [], 0
            if line:
                sentences.append(line)
                size += len(line)
        if sentences:
            yield SentenceDocument(tuple(sentences))

    def _paragraph_documents(self, lines: Iterator[str]) -> Iterator[Document]:
        """Paragraphs end at blank lines; each is a document, or all of them together are one."""
        one_file = self._settings.text_documents == "file"
        paragraphs: List[str] = []
        size = 0
        for paragraph in self._paragraphs(lines):
            if paragraphs and (not one_file or size + len(paragraph) > self._settings.longest):
                if one_file:
                    self._counts["documents cut at --max_characters"] += 1
                yield TextDocument(tuple(paragraphs))
                paragraphs, size = [], 0
            paragraphs.append(paragraph)
            size += len(paragraph)
        if paragraphs:
            yield TextDocument(tuple(paragraphs))

    def _paragraphs(self, stripped: Iterator[str]) -> Iterator[str]:
        """Lines between blank lines, joined: the lines of a book are wrapped anywhere."""
        longest = self._settings.longest
        lines: List[str] = []
        size = 0
        for line in stripped:
            if lines and (not line or size + len(line) > longest):
                yield " ".join(lines)
                lines, size = [], 0
            if line:
                lines.append(line)
                size += len(line) + 1
        if lines:
            yield " ".join(lines)
