"""Which documents are gone through how often and in which order: a pure function of the corpus, the weights and the
seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional, Sequence

import numpy as np

from pipeloom.plugins.datasets.wiki_ofrecord.corpus import Corpus, Source
from pipeloom.plugins.datasets.wiki_ofrecord.examples import Document, Documents

#: Tokens of the documents of a block, on the average: what a worker makes examples of at once.
BLOCK_TOKENS = 1 << 18
_PIECE = 1 << 16
_ROUNDS = 6


@dataclass(frozen=True)
class Visit:
    """One going through of a document: number ``pass_number`` (from 0)."""

    document: int
    pass_number: int


class Visits:
    """The visits of all documents, cut into ``blocks`` that each have their share of every source.

    Args:
        sources: of the corpus.
        counts: for each source how many visits it gets. One pass after another goes through all of its documents, each
        in an order of its own.
        blocks: number of blocks.
        seed: of the orders.
    """

    def __init__(self, sources: Sequence[Source], counts: Sequence[int], blocks: int, seed: int) -> None:
        self._sources, self.counts, self.blocks, self._seed = sources, counts, blocks, seed

    def of_block(self, block: int) -> Iterator[Visit]:
        for source, count in zip(self._sources, self.counts):
            # Whole numbers all the way: the borders are the same on every machine.
            first, end = (count * number // self.blocks for number in (block, block + 1))
            while first < end:
                number, start = divmod(first, source.documents)
                stop = min(source.documents, start + end - first)
                for document in permuted(
                    np.arange(start, stop), source.documents, self._seed, source.first, number
                ).tolist():
                    yield Visit(source.first + document, number)
                first += stop - start


def plan_visits(
    corpus: Corpus, sources: Sequence[Source], dupe_factor: int, weights: Optional[Sequence[float]], seed: int
) -> Visits:
    """Every document ``dupe_factor`` times; with ``weights`` (that sum up to 1) as many tokens in all, of each source
    its weight's share of them.
    """
    total = dupe_factor * sum(source.tokens for source in sources)
    if weights is None:
        counts = [dupe_factor * source.documents for source in sources]
    else:
        counts = [_visits_for(corpus, source, round(total * weight), seed) for source, weight in zip(sources, weights)]
    return Visits(sources, counts, max(1, round(total / BLOCK_TOKENS)), seed)


def _visits_for(corpus: Corpus, source: Source, tokens: int, seed: int) -> int:
    """How many visits go through ``tokens`` tokens (the last one as far as it is nearer), at least one."""
    passes, wanted = divmod(tokens, source.tokens)
    seen = count = 0
    for start in range(0, source.documents, _PIECE):
        order = permuted(
            np.arange(start, min(start + _PIECE, source.documents)), source.documents, seed, source.first, passes
        )
        sizes = np.array([corpus.size(source.first + document) for document in order.tolist()])
        ends = seen + np.cumsum(sizes)
        count += int(np.searchsorted(ends - sizes / 2, wanted))
        seen = int(ends[-1])
        if seen >= wanted:
            break
    return max(1, passes * source.documents + count)


def permuted(positions: np.ndarray, size: int, *key: int) -> np.ndarray:
    """What stands at ``positions`` of a random order of the numbers below ``size``: int64, without the order in memory.

    A Feistel network over the next power of 4, walked until it is back below ``size`` (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002). ``key`` says which order.
    """
    half = max(1, -(-(size - 1).bit_length() // 2))
    mask = np.uint64((1 << half) - 1)
    state = np.random.SeedSequence([number % (1 << 64) for number in key]).generate_state(2 * _ROUNDS, np.uint64)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & mask
        for factor, shift in zip(state[::2], state[1::2]):
            # The middle bits of a product with an odd number are well mixed; numpy's integers wrap around.
            mixed = ((right + shift) * (factor | np.uint64(1))) >> np.uint64(29)
            left, right = right, left ^ (mixed & mask)
        values[outside] = left << np.uint64(half) | right
        outside = values >= size
    return values.astype(np.int64)


class OtherDocuments(Documents):
    """Random documents of the same source, or of any where that source has but one: books do not follow on
    encyclopedias.
    """

    def __init__(self, corpus: Corpus, sources: Sequence[Source]) -> None:
        self._corpus = corpus
        self._all = Source(0, sum(source.documents for source in sources), 0)
        self._sources = sources
        self._starts = np.array([source.first for source in sources])

    def other_than(self, index: int, rng: np.random.Generator) -> Document:
        source = self._sources[int(np.searchsorted(self._starts, index, side="right")) - 1]
        if source.documents < 2:
            source = self._all
        other = source.first + int(rng.integers(source.documents - 1))
        return self._corpus.document(other + 1 if other >= index else other)
