"""Documents to sentences of token ids: the part of the preparation that takes the time, and that workers do."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.characters import whole
from pipeloom.plugins.libraries.corpus.documents import Document, ExtractedPage, SentenceDocument
from pipeloom.plugins.libraries.corpus.wiki_dump import WikiPage
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer
from pipeloom.plugins.libraries.tokens.token_format import token_dtype

_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class TextSettings:
    """``vocab`` and ``lowercase``: as of ``WordPieceTokenizer.load``; ``language``: an ISO 639 code, for the ends of
    sentences; ``min_characters``: a document with less text is left out; ``longest_sentence``: in tokens, longer ones
    are cut there."""

    vocab: Path
    lowercase: Optional[bool] = None
    language: str = "en"
    min_characters: int = 200
    longest_sentence: int = 125


class SentenceSplitter:
    """Turns a document that is to be kept into its sentences, another one into none; ``counts`` says why, and how many
    sentences were left out. Arguments as :class:`TextSettings`."""

    def __init__(self, language: str, min_characters: int) -> None:
        self._language, self._min_characters = language, min_characters

    def __call__(self, document: Document, counts: Counter) -> List[str]:
        if isinstance(document, (WikiPage, ExtractedPage)):
            article = self.article(document, counts)
            if article is None:
                return []
            sentences = [sentence for kept in self.without_holes(*article) for sentence in kept]
        elif isinstance(document, SentenceDocument):
            sentences = [whole(sentence) for sentence in document.sentences if sentence.strip()]
        else:
            sentences = self._split(document.paragraphs, counts)
        return sentences if self.is_kept(sum(map(len, sentences)), counts) else []

    def is_kept(self, characters: int, counts: Counter) -> bool:
        """Return whether a document with so much text is kept; counted is why not."""
        if not characters:
            counts["documents without text"] += 1
        elif characters < self._min_characters:
            counts["documents shorter than --min_characters"] += 1
        else:
            return True
        return False

    def article(self, document: Any, counts: Counter) -> Optional[Tuple[List[str], Any]]:
        """Return the paragraphs of a page's prose, with holes, and the ``wikitext.Notes`` on them; ``None`` for a page
        that is no article.
        """
        from pipeloom.plugins.libraries.corpus import wikitext  # the parser is not needed for other inputs

        notes = wikitext.Notes(counts)
        if isinstance(document, ExtractedPage):
            from pipeloom.plugins.libraries.corpus import wikiextractor

            return wikiextractor.extracted_paragraphs(document, notes), notes
        if wikitext.is_disambiguation(document.text):
            counts["disambiguation pages"] += 1
            return None
        language = self._language_of(document)
        return wikitext.paragraphs(document.text, document.aside, language, document.title, notes), notes

    def _language_of(self, page: WikiPage) -> str:
        """That of the wiki, or its variant that ``language`` names."""
        own = self._language.partition("-")[0]
        return self._language if not page.language or page.language.partition("-")[0] == own else page.language

    def without_holes(self, paragraphs: Iterable[str], notes: Any, as_they_are: bool = False) -> Iterator[List[str]]:
        """Yield of each paragraph the sentences without a hole; of the others it is counted what stood there.

        ``as_they_are``: a paragraph without a hole is one piece, and not split.
        """
        from pipeloom.plugins.libraries.corpus.wikitext import HOLE

        used = 0
        for paragraph in paragraphs:
            kept = []
            for sentence in [whole(paragraph)] if as_they_are and HOLE not in paragraph else self._pieces([paragraph]):
                count = sentence.count(HOLE)
                if count:
                    names = set(notes.holes[used : used + count])
                    used += count
                    unknown = sorted(name for name in names if name.startswith("{{"))
                    notes.counts[_UNKNOWN if unknown else _FORMULA] += 1
                    notes.counts.update(unknown)
                elif _WORD.search(sentence):
                    kept.append(sentence)
                else:
                    notes.counts[_WORDLESS] += 1
            yield kept

    def _split(self, paragraphs: Iterable[str], counts: Counter) -> List[str]:
        pieces = self._pieces(paragraphs)
        kept = [piece for piece in pieces if _WORD.search(piece)]
        if len(kept) < len(pieces):
            counts[_WORDLESS] += len(pieces) - len(kept)
        return kept

    def _pieces(self, paragraphs: Iterable[str]) -> List[str]:
        import sentencex  # not needed for inputs whose sentences are known

        split = (sentencex.segment(self._language, whole(paragraph)) for paragraph in paragraphs)
        return [piece.strip() for pieces in split for piece in pieces if piece.strip()]


_UNKNOWN, _FORMULA = "sentences with a template of which nothing is known", "sentences with a formula or code"
_WORDLESS = "sentences without a letter or digit"


@dataclass(frozen=True)
class Chunk:
    """Neighbouring documents of the input number ``source``."""

    source: int
    documents: Sequence[Document]


#: Characters of the documents that a worker gets at once.
_CHUNK_CHARACTERS = 1 << 18


def in_chunks(inputs: Sequence[Iterable[Document]], skip: int, report: Callable[[], None]) -> Iterator[Chunk]:
    """Yield all documents but the first ``skip``, which an earlier try has done.

    ``report`` is called for each document that was read, and may raise to stop the work.
    """
    for source, documents in enumerate(inputs):
        batch: List[Document] = []
        size = 0
        for document in documents:
            report()
            if skip:
                skip -= 1
                continue
            batch.append(document)
            size += document.characters
            if size >= _CHUNK_CHARACTERS:
                yield Chunk(source, batch)
                batch, size = [], 0
        if batch:
            yield Chunk(source, batch)


@dataclass(frozen=True)
class Tokenized:
    """A chunk of ``read`` documents as tokens: ``tokens`` all ids one after another, ``sentence_sizes`` the tokens of
    each sentence, ``document_sizes`` the sentences of each document that was kept. ``counts`` says what was left out.
    """

    source: int
    read: int
    tokens: np.ndarray
    sentence_sizes: np.ndarray
    document_sizes: np.ndarray
    counts: Counter


class Tokenizing:
    """Turns a :class:`Chunk` into :class:`Tokenized`."""

    def __init__(self, settings: TextSettings) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are the parallelism
        self._settings = settings
        self._tokenizer = WordPieceTokenizer.load(settings.vocab, settings.lowercase)
        self._dtype = token_dtype(len(self._tokenizer))
        self._split = SentenceSplitter(settings.language, settings.min_characters)

    def __call__(self, chunk: Chunk) -> Tokenized:
        counts: Counter = Counter()
        tokens: List[int] = []
        sentence_sizes: List[int] = []
        document_sizes: List[int] = []
        for document in chunk.documents:
            sentences = self._split(document, counts)
            if not sentences:
                continue
            count = len(sentence_sizes)
            for ids in self._tokenizer.encode_batch(sentences):
                if len(ids) > self._settings.longest_sentence:
                    counts[f"sentences cut after {self._settings.longest_sentence} tokens"] += 1
                for start in range(0, len(ids), self._settings.longest_sentence):
                    piece = ids[start : start + self._settings.longest_sentence]
                    tokens += piece
                    sentence_sizes.append(len(piece))
            if len(sentence_sizes) > count:
                document_sizes.append(len(sentence_sizes) - count)
            else:
                counts["documents without text"] += 1
        return Tokenized(
            chunk.source,
            len(chunk.documents),
            np.array(tokens, self._dtype),
            np.array(sentence_sizes, np.uint32),
            np.array(document_sizes, np.int64),
            counts,
        )
