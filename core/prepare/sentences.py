"""Documents to sentences of token ids: the part of the preparation that takes the time, and that workers do."""
from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Optional, Sequence

import numpy as np

from pipeloom.core.data.characters import whole
from pipeloom.core.data.tokenization import WordPieceTokenizer
from pipeloom.core.prepare.documents import Document, SentenceDocument
from pipeloom.core.prepare.wiki_dump import WikiPage

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
    """Turns a document that is to be kept into its sentences, another one into none; ``counts`` says why. Arguments as :class:`TextSettings`."""

    def __init__(self, language: str, min_characters: int) -> None:
        self._language, self._min_characters = language, min_characters

    def __call__(self, document: Document, counts: Counter) -> List[str]:
        if isinstance(document, WikiPage):
            from pipeloom.core.prepare import wikitext  # the parser is not needed for other inputs

            if wikitext.is_disambiguation(document.text):
                counts["disambiguation pages"] += 1
                return []
            sentences = [sentence for sentence in self._split(wikitext.paragraphs(document.text, document.aside)) if wikitext.HOLE not in sentence]
        elif isinstance(document, SentenceDocument):
            sentences = [whole(sentence) for sentence in document.sentences if sentence.strip()]
        else:
            sentences = self._split(document.paragraphs)
        size = sum(map(len, sentences))
        if not size:
            counts["documents without text"] += 1
        elif size < self._min_characters:
            counts["documents shorter than --min_characters"] += 1
        else:
            return sentences
        return []

    def _split(self, paragraphs: Iterable[str]) -> List[str]:
        import sentencex     # not needed for inputs whose sentences are known

        pieces = [piece.strip() for paragraph in paragraphs for piece in sentencex.segment(self._language, whole(paragraph))]
        return [piece for piece in pieces if _WORD.search(piece)]


@dataclass(frozen=True)
class Chunk:
    """Neighbouring documents of the input number ``source``."""

    source: int
    documents: Sequence[Document]


@dataclass(frozen=True)
class Tokenized:
    """A chunk of ``read`` documents as tokens: ``tokens`` all ids one after another, ``sentence_sizes`` the tokens of each sentence,
    ``document_sizes`` the sentences of each document that was kept. ``counts`` says what was left out."""

    source: int
    read: int
    tokens: np.ndarray
    sentence_sizes: np.ndarray
    document_sizes: np.ndarray
    counts: Counter


class Tokenizing:
    """Turns a :class:`Chunk` into :class:`Tokenized`."""

    def __init__(self, settings: TextSettings) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")    # the workers are the parallelism
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
                for start in range(0, len(ids), self._settings.longest_sentence):
                    piece = ids[start : start + self._settings.longest_sentence]
                    tokens += piece
                    sentence_sizes.append(len(piece))
            if len(sentence_sizes) > count:
                document_sizes.append(len(sentence_sizes) - count)
            else:
                counts["documents without text"] += 1
        return Tokenized(chunk.source, len(chunk.documents), np.array(tokens, self._dtype), np.array(sentence_sizes, np.uint32),
                         np.array(document_sizes, np.int64), counts)


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type on disk that holds the ids of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
