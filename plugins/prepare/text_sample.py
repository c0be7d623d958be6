"""A random part of the text of any amount of documents, on disk: what a vocabulary is trained on."""

from __future__ import annotations

import heapq
import math
import tempfile
from collections import Counter, deque
from pathlib import Path
from typing import Callable, Deque, Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from pipeloom.plugins.libraries.corpus.documents import Document
from pipeloom.plugins.libraries.corpus.sentences import Chunk, SentenceSplitter
from pipeloom.plugins.libraries.preparation.pool import ordered_map

#: Characters of the documents that a worker gets at once.
_CHUNK_CHARACTERS = 1 << 18


class TextSample:
    """Of the documents that are added, as many as have ``limit`` characters together: those with the smallest keys.

    With random keys each is as likely as any other, and it need not be known how many there will be. Iterating, as
    often as wanted, gives their sentences in the order in which they came. They lie in a file in ``folder`` that has no
    name and goes with the process; it grows to ``limit * (1 + log(all / limit))`` bytes or so. ``bar``: a document
    whose key is not below it can be left out unread.
    """

    def __init__(self, limit: float, folder: Path) -> None:
        self._limit = limit
        self._file = tempfile.TemporaryFile(dir=folder)
        self._kept: List[Tuple[float, int, int, int]] = []  # -key, place and bytes in the file, characters
        self.characters = 0
        self.bar = math.inf

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: float, sentences: Sequence[str]) -> None:
        """A document that may be kept."""
        if key >= self.bar:
            return
        # The space before a sentence is part of its first word, as byte-level BPE sees it.
        text = "\n ".join(sentence.replace("\n", " ") for sentence in sentences)
        data = text.encode()
        heapq.heappush(self._kept, (-key, self._file.seek(0, 2), len(data), len(text)))
        self._file.write(data)
        self.characters += len(text)
        self.trim(self._limit)

    def trim(self, limit: float) -> None:
        """Give documents up until there are not more than ``limit`` characters; the last one stays."""
        while self.characters > limit and len(self._kept) > 1:
            key, _, _, characters = heapq.heappop(self._kept)
            self.bar = -key
            self.characters -= characters

    def __iter__(self) -> Iterator[str]:
        for place, size in sorted((place, size) for _, place, size, _ in self._kept):
            self._file.seek(place)
            yield from self._file.read(size).decode().split("\n")


class Splitting:
    """Turns a :class:`Chunk` into the sentences of each of its documents, and the counts of what was left out."""

    def __init__(self, language: str, min_characters: int) -> None:
        self._split = SentenceSplitter(language, min_characters)

    def __call__(self, chunk: Chunk) -> Tuple[List[List[str]], Counter]:
        counts: Counter = Counter()
        return [self._split(document, counts) for document in chunk.documents], counts


def sample_text(
    inputs: Sequence[Iterable[Document]],
    samples: Sequence[TextSample],
    splitting: Tuple[str, int],
    seed: int,
    workers: int,
    report: Callable[[int], None],
) -> Counter:
    """Reads the documents of each of ``inputs`` into the sample beside it (several may share one); returns the counts
    of what was left out.

    ``splitting``: the arguments of :class:`Splitting`. What is chosen depends on the documents and the seed, not on the
    workers. ``report`` is called for each document with the number of those before it, and may raise to stop the work.
    """
    counts: Counter = Counter()
    # Of the chunks that the workers have: whose they are, and the keys of their documents.
    pending: Deque[Tuple[TextSample, List[float]]] = deque()
    for split, left_out in ordered_map(workers, Splitting, splitting, _chunks(inputs, samples, seed, pending, report)):
        sample, keys = pending.popleft()
        counts += left_out
        for key, sentences in zip(keys, split):
            if sentences:
                sample.add(key, sentences)
    return counts


def _chunks(
    inputs: Sequence[Iterable[Document]],
    samples: Sequence[TextSample],
    seed: int,
    pending: Deque[Tuple[TextSample, List[float]]],
    report: Callable[[int], None],
) -> Iterator[Chunk]:
    rng = np.random.Generator(np.random.Philox(key=seed % 2**64))
    number = 0
    for source, (documents, sample) in enumerate(zip(inputs, samples)):
        chosen: List[Tuple[float, Document]] = []
        size = 0
        for document in documents:
            report(number)
            number += 1
            key = rng.random()
            # The bar only sinks, so what is above it now would not be kept later either.
            if key < sample.bar:
                chosen.append((key, document))
                size += document.characters
            if size >= _CHUNK_CHARACTERS:
                pending.append((sample, [key for key, _ in chosen]))
                yield Chunk(source, [document for _, document in chosen])
                chosen, size = [], 0
        if chosen:
            pending.append((sample, [key for key, _ in chosen]))
            yield Chunk(source, [document for _, document in chosen])
