"""Documents to a token folder: in worker processes, and after an interruption on from where it was."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.plugins.libraries.corpus.documents import Document
from pipeloom.plugins.libraries.preparation.journal import Journal
from pipeloom.plugins.libraries.preparation.pool import ordered_map
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.token_format import TOKENS, token_dtype
from pipeloom.plugins.libraries.tokens.token_writing import ENDS

#: Called often, and with ``documents=`` when more of them are done; raises to stop the work.
Report = Callable[..., None]


def _nobody(**_: int) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True)
class EncodingSettings:
    """``vocab`` and ``lowercase``: the tokenizer, as of ``Vocabulary``; ``language``, ``min_characters``: as of
    ``TextSettings``."""

    vocab: Path
    lowercase: Optional[bool] = None
    language: str = "en"
    min_characters: int = 0


@dataclass(frozen=True)
class Encoded:
    """A chunk of ``read`` documents: ``tokens``, all ids one after the other; ``sizes``, the tokens of each document
    that was kept; ``counts`` of what was left out.
    """

    source: int
    read: int
    tokens: np.ndarray
    sizes: np.ndarray
    counts: Counter


class Encoding:
    """Turns a chunk of documents (``corpus.sentences.Chunk``) into :class:`Encoded`."""

    def __init__(self, settings: EncodingSettings) -> None:
        from pipeloom.plugins.libraries.corpus.document_text import DocumentText

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are the parallelism
        self._tokenizer = Vocabulary(settings.vocab, settings.lowercase).load()
        self._dtype = token_dtype(len(self._tokenizer))
        self._text = DocumentText(settings.language, settings.min_characters)

    def __call__(self, chunk: Any) -> Encoded:
        counts: Counter = Counter()
        kept: List[np.ndarray] = []
        for document in chunk.documents:
            text = self._text(document, counts)
            if text:
                ids = np.array(self._tokenizer.encode(text), self._dtype)
                if len(ids):
                    kept.append(ids)
                else:
                    counts["documents without text"] += 1
        tokens = np.concatenate([np.empty(0, self._dtype), *kept])
        sizes = np.array([len(ids) for ids in kept], np.int64)
        return Encoded(chunk.source, len(chunk.documents), tokens, sizes, counts)


def tokenize_documents(
    folder: Path,
    work: Path,
    inputs: Sequence[Iterable[Document]],
    settings: EncodingSettings,
    workers: int = 0,
    read_counts: Optional[Counter] = None,
    report: Report = _nobody,
) -> Tuple[List[Tuple[int, int]], Counter]:
    """Write the tokens of all documents into ``folder``; ``token_writing.seal`` makes a token folder of it, with
    ``work / ENDS``.

    Returns of each input its documents and tokens, and the counts of what was left out. Called again after it was
    interrupted, with the same arguments, it goes on from ``work``, where it keeps how far it came: the bytes in the end
    depend on the documents and the settings alone. ``read_counts``: where the reading of ``inputs``, which goes on
    meanwhile, counts what it leaves out.
    """
    from pipeloom.plugins.libraries.corpus.sentences import in_chunks

    read_counts = Counter() if read_counts is None else read_counts
    ends_name = os.path.relpath(work / ENDS, folder)
    journal = Journal(work / "tokens.json", folder, (TOKENS, ends_name))
    state = journal.state or {"done": False, "read": 0, "sources": [[0, 0] for _ in inputs], "counts": {}}
    counts, sources, read = Counter(state["counts"]), state["sources"], state["read"]
    try:
        if not state["done"]:
            end = sum(tokens for _, tokens in sources)
            for batch in ordered_map(workers, Encoding, (settings,), in_chunks(inputs, read, report)):
                journal.append(TOKENS, batch.tokens.tobytes())
                journal.append(ends_name, (end + np.cumsum(batch.sizes)).astype("<i8").tobytes())
                end += len(batch.tokens)
                counts += batch.counts
                read += batch.read
                documents, tokens = sources[batch.source]
                sources[batch.source] = [documents + len(batch.sizes), tokens + len(batch.tokens)]
                journal.keep({"done": False, "read": read, "sources": sources, "counts": counts})
                report(documents=sum(documents for documents, _ in sources))
            counts += read_counts
            journal.commit({"done": True, "read": read, "sources": sources, "counts": counts})
    finally:
        journal.close()
    return [(documents, tokens) for documents, tokens in sources], counts
