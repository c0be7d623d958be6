"""Documents to parts of training examples, in two passes that can stop at any moment and go on.

First all documents become tokens (``tokenize``): the corpus in the folder ``work``. Then examples are made of it
(``make_parts``), block by block, and dealt out to the parts like cards. What comes out depends on the documents, the
settings and the seed alone, whatever the number of workers and however often it was interrupted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.datasets.wiki_ofrecord.corpus import Corpus, CorpusWriter, Source
from pipeloom.plugins.datasets.wiki_ofrecord.examples import ExampleMaker, ExampleSettings
from pipeloom.plugins.datasets.wiki_ofrecord.visits import OtherDocuments, Visits, plan_visits
from pipeloom.plugins.libraries.corpus.documents import Document
from pipeloom.plugins.libraries.corpus.sentences import TextSettings, Tokenizing, in_chunks
from pipeloom.plugins.libraries.ofrecord.records import encode, framed
from pipeloom.plugins.libraries.preparation.journal import Journal
from pipeloom.plugins.libraries.preparation.pool import ordered_map
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer
from pipeloom.plugins.libraries.tokens.token_format import token_dtype

#: Called often, and with how much is done (``documents=``, ``blocks=``, ``samples=``) when that changes; raises to stop
#: the work.
Report = Callable[..., None]


def _nobody(**_: int) -> None:
    """Where nobody wants to know."""


def tokenize(
    work: Path,
    inputs: Sequence[Iterable[Document]],
    settings: TextSettings,
    workers: int = 0,
    read_counts: Optional[Counter] = None,
    report: Report = _nobody,
) -> Tuple[List[Source], Counter]:
    """The first pass. Returns where in the corpus the documents of each input are, and what was left out.

    ``read_counts``: where the reading of ``inputs``, which goes on meanwhile, counts what it leaves out.
    """
    read_counts = Counter() if read_counts is None else read_counts
    writer = CorpusWriter(work)
    state = writer.state or {"done": False, "read": 0, "sources": [[0, 0] for _ in inputs], "counts": {}}
    counts = Counter(state["counts"])
    sources, read = state["sources"], state["read"]  # of each source the documents and tokens
    try:
        if not state["done"]:
            for batch in ordered_map(workers, Tokenizing, (settings,), in_chunks(inputs, read, report)):
                writer.append(batch)
                counts += batch.counts
                read += batch.read
                documents, tokens = sources[batch.source]
                sources[batch.source] = [documents + len(batch.document_sizes), tokens + len(batch.tokens)]
                writer.keep({"done": False, "read": read, "sources": sources, "counts": counts})
                report(documents=sum(documents for documents, _ in sources))
            writer.commit({"done": True, "read": read, "sources": sources, "counts": counts + read_counts})
            counts += read_counts
    finally:
        writer.close()
    firsts = np.cumsum([0, *(documents for documents, _ in sources)])
    return [Source(int(first), documents, tokens) for first, (documents, tokens) in zip(firsts, sources)], counts


@dataclass(frozen=True)
class Block:
    """Examples as they stand in a part, in random order. ``counts``: of examples, and of their tokens, predictions and
    random pairs.
    """

    records: List[bytes]
    counts: Counter


@dataclass(frozen=True)
class Recipe:
    """What examples are made of, and how: all that a worker needs to make the block with a given number."""

    work: Path
    sources: Sequence[Source]
    visits: Visits
    text: TextSettings
    examples: ExampleSettings
    seed: int

    @classmethod
    def plan(
        cls,
        work: Path,
        sources: Sequence[Source],
        text: TextSettings,
        examples: ExampleSettings,
        dupe_factor: int,
        weights: Optional[Sequence[float]],
        seed: int,
    ) -> Recipe:
        """See ``plan_visits``."""
        corpus = Corpus(work, token_dtype(len(WordPieceTokenizer.load(text.vocab, text.lowercase))))
        visits = plan_visits(corpus, sources, dupe_factor, weights, seed)
        corpus.close()
        return cls(work, sources, visits, text, examples, seed)


class BlockMaker:
    """Makes the block with a given number."""

    def __init__(self, recipe: Recipe) -> None:
        tokenizer = WordPieceTokenizer.load(recipe.text.vocab, recipe.text.lowercase)
        self._corpus = Corpus(recipe.work, token_dtype(len(tokenizer)))
        self._others = OtherDocuments(self._corpus, recipe.sources)
        self._visits, self._seed = recipe.visits, recipe.seed
        self._maker = ExampleMaker(tokenizer, recipe.examples)

    def __call__(self, number: int) -> Block:
        records = []
        counts: Counter = Counter()
        for visit in self._visits.of_block(number):
            # A stream of random numbers for each visit: nothing depends on who makes what.
            rng = _stream(self._seed, visit.pass_number, visit.document)
            for example in self._maker.examples(
                self._corpus.document(visit.document), visit.document, self._others, rng
            ):
                records.append(framed(encode(example)))
                counts["tokens"] += int(example["input_mask"].sum())
                counts["predictions"] += int(example["masked_lm_weights"].sum())
                counts["random next"] += int(example["next_sentence_labels"][0])
        counts["samples"] = len(records)
        order = _stream(self._seed, _SHUFFLE, number).permutation(len(records))
        return Block([records[index] for index in order], counts)


#: In the place of the number of a pass.
_SHUFFLE = (1 << 24) - 1


def _stream(seed: int, pass_number: int, number: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.Philox(key=np.array([seed % (1 << 64), pass_number << 40 | number], np.uint64))
    )


def make_parts(folder: Path, parts: int, recipe: Recipe, workers: int = 0, report: Report = _nobody) -> Counter:
    """The second pass: the files ``part-0`` and on in ``folder``. Returns the counts of all blocks together."""
    names = [f"part-{part}" for part in range(parts)]
    journal = Journal(recipe.work / "parts.json", folder, names)
    state = journal.state or {"blocks": 0, "counts": {}}
    counts, done = Counter(state["counts"]), state["blocks"]
    try:
        for block in ordered_map(workers, BlockMaker, (recipe,), range(done, recipe.visits.blocks)):
            for number, record in enumerate(block.records, counts["samples"]):
                journal.append(names[number % parts], record)
            counts += block.counts
            done += 1
            journal.keep({"blocks": done, "counts": counts})
            report(blocks=done, samples=counts["samples"])
        journal.commit({"blocks": done, "counts": counts})
    finally:
        journal.close()
    if counts["samples"] < parts:
        raise UsageError(
            f"the input gives {counts['samples']} samples, fewer than --parts {parts}; give more text, or fewer parts"
        )
    return counts
