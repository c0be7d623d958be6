"""Articles as WikiExtractor writes them: between ``<doc ...>`` and ``</doc>``, or as JSON lines; what it left of markup
is taken out."""

from __future__ import annotations

import html
import re
from collections import Counter
from typing import Any, Iterator, List, Optional

from pipeloom.plugins.libraries.corpus.documents import ExtractedPage
from pipeloom.plugins.libraries.corpus.streams import BadInput, InputStream

_BEGIN = re.compile(r'<doc id="[^"]*"(.*)>\s*$')
_END = re.compile(r"\s*</doc>\s*$")
_TITLE = re.compile(r' title="(.*)"')


def extracted_pages(stream: InputStream, longest: int, counts: Counter) -> Iterator[ExtractedPage]:
    """The documents of a file. One of more than ``longest`` characters is left out. Raises ``BadInput`` for one that
    has no end."""
    title: Optional[str] = None  # of the document that this is in
    lines: List[str] = []
    size = 0
    for line in stream.lines(longest):
        begin = _BEGIN.match(line)
        if begin or title is None:
            if title is not None:
                raise BadInput(f"{stream.path}: a <doc> begins inside of another one, '{title}'")
            if begin:
                found = _TITLE.search(begin[1])
                title, lines, size = html.unescape(found[1]) if found else "", [], 0
            elif line.strip():
                counts["lines outside of a <doc>"] += 1
        elif _END.match(line):
            if size > longest:
                counts["pages longer than --max_characters"] += 1
            else:
                yield ExtractedPage(title, "\n".join(lines))
            title, lines = None, []
        else:
            size += len(line) + 1
            if size <= longest:
                lines.append(line)
    if title is not None:
        raise BadInput(f"{stream.path}: the file ends inside of the <doc> '{title}'")


_LEFT_TAG = re.compile(r"</?(?!br\b)[A-Za-z][\w-]*(?:\s[^<>]*)?/?>")
_BREAK = re.compile(r"<br\b[^<>]*>", re.I)
# What WikiExtractor puts in the place of formulas and code.
_PLACEHOLDER = re.compile(r"\b(formula|codice)_\d+")


def extracted_paragraphs(page: ExtractedPage, notes: Any) -> List[str]:
    """The prose of a page, without its title; ``HOLE`` and ``notes`` as of ``wikitext.paragraphs``."""
    from pipeloom.plugins.libraries.corpus import wikitext  # its parser is not needed for other inputs

    found = []
    lines = page.text.strip().split("\n")
    for line in lines[1:] if lines[0].strip() == page.title else lines:
        # Some references were escaped once in the page and once more here.
        line = wikitext.without_marks(html.unescape(html.unescape(line)))
        line = _PLACEHOLDER.sub(wikitext.FORMULA, _LEFT_TAG.sub("", _BREAK.sub(" ", line)))
        paragraph = wikitext.prose(line, notes.counts)
        if paragraph:
            notes.holes += ["<math>"] * paragraph.count(wikitext.FORMULA)
            found.append(paragraph.replace(wikitext.FORMULA, wikitext.HOLE))
    return found
