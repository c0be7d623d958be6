"""The pages of a MediaWiki XML dump (pages-articles.xml), one after another.

The format is that of https://www.mediawiki.org/xml/export-0.11.xsd: ``siteinfo`` with the names of the namespaces, then
``page`` elements with ``title``, ``ns``, perhaps ``redirect``, and ``revision`` elements whose last one is the page as
it stands.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple
from xml.parsers import expat

from pipeloom.plugins.libraries.corpus.streams import BadInput, InputStream

# The numbers of namespaces whose links are no text, in every wiki: files and categories.
_LINKED_ASIDE = ("6", "14")
_KEPT = ("title", "ns", "text", "namespace")
_REDIRECT = re.compile(r"\s*#\s?[^\W\d]+\s*:?\s*\[\[", re.I)


@dataclass(frozen=True)
class WikiPage:
    """One article: ``text`` is wikitext. A link to a namespace in ``aside`` (File, Category, in the wiki's own words)
    is no text.

    ``language`` is the wiki's, where the dump says it.
    """

    title: str
    text: str
    aside: Tuple[str, ...]
    language: str = ""

    @property
    def characters(self) -> int:
        return len(self.text)


class WikiDump:
    """The articles of a dump: namespace 0, no redirects. ``counts`` says what was left out.

    A page of more than ``longest`` characters is left out; no more of it than that is ever in memory.
    Raises :class:`BadInput` where the dump is no well-formed XML.
    """

    def __init__(self, stream: InputStream, longest: int, counts: Counter) -> None:
        self._stream, self._longest, self._counts = stream, longest, counts
        self._ready: List[WikiPage] = []
        self._aside: List[str] = []
        self._page: Dict[str, Any] = {}
        self._element = self._language = ""
        self._key = ""  # of a namespace
        self._characters: List[str] = []
        self._size = 0

    def __iter__(self) -> Iterator[WikiPage]:
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        # An entity of an own declaration can grow without bound ("billion laughs"); a dump declares none.
        parser.EntityDeclHandler = self._refuse_entity
        try:
            for piece in self._stream.pieces():
                parser.Parse(piece, False)
                yield from self._taken()
            parser.Parse("", True)
        except expat.ExpatError as error:
            yield from self._taken()
            raise BadInput(
                f"{self._stream.path} line {error.lineno}: no well-formed XML ({expat.ErrorString(error.code)})"
            ) from None

    def _taken(self) -> List[WikiPage]:
        ready, self._ready = self._ready, []
        return ready

    def _start(self, name: str, attributes: Dict[str, str]) -> None:
        if name == "page":
            self._page = {}
        elif name == "mediawiki":
            self._language = attributes.get("xml:lang", "").lower()
        elif name == "redirect":
            self._page["redirect"] = True
        elif name in _KEPT:
            self._element, self._key = name, attributes.get("key", "")
            self._characters, self._size = [], 0

    def _data(self, data: str) -> None:
        if self._element:
            self._size += len(data)
            if self._size <= self._longest:
                self._characters.append(data)

    def _end(self, name: str) -> None:
        if name == "page":
            self._finish()
        elif name == self._element:
            content = "".join(self._characters)
            if name == "namespace":
                if self._key in _LINKED_ASIDE:
                    self._aside.append(content.lower())
            else:
                # Of several revisions the last one stays.
                self._page[name] = content
                self._page["long"] = name == "text" and self._size > self._longest
            self._element, self._characters = "", []

    def _finish(self) -> None:
        page, text = self._page, self._page.get("text", "")
        if page.get("ns", "0").strip() != "0":
            self._counts["pages of other namespaces"] += 1
        elif "redirect" in page or _REDIRECT.match(text):
            self._counts["redirects"] += 1
        elif page.get("long"):
            self._counts["pages longer than --max_characters"] += 1
        else:
            self._ready.append(WikiPage(page.get("title", ""), text, tuple(self._aside), self._language))

    def _refuse_entity(self, name: str, *declaration: Any) -> None:
        raise BadInput(
            f"{self._stream.path}: it declares the entity '{name}', which no MediaWiki dump does",
            "give a pages-articles dump",
        )
