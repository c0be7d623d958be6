"""The tokenised documents of all inputs on disk, for random access: what examples are made from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from pipeloom.plugins.datasets.wiki_ofrecord.examples import Document
from pipeloom.plugins.libraries.corpus.sentences import Tokenized
from pipeloom.plugins.libraries.preparation.journal import Journal

_FILES = ("tokens.bin", "sentences.bin", "documents.bin")
#: Of each document where its tokens and its sentences begin, and how many there are.
_ROW = np.dtype([("token", "<i8"), ("sentence", "<i8"), ("tokens", "<i8"), ("sentences", "<i8")])
_SIZE = np.dtype("<u4")


@dataclass(frozen=True)
class Source:
    """The documents of one input in the corpus: ``first`` and on, ``documents`` of them, with ``tokens`` tokens in
    all.
    """

    first: int
    documents: int
    tokens: int


class CorpusWriter:
    """Appends documents to the corpus in ``folder``, source after source."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / "corpus.json", folder, _FILES)

    @property
    def state(self) -> Dict[str, Any]:
        """What the last ``commit`` was given."""
        return self._journal.state

    def append(self, batch: Tokenized) -> None:
        itemsize = batch.tokens.dtype.itemsize
        ends = np.cumsum(batch.document_sizes)
        token_ends = np.concatenate([[0], np.cumsum(batch.sentence_sizes, dtype=np.int64)])[np.concatenate([[0], ends])]
        rows = np.empty(len(ends), _ROW)
        rows["sentences"], rows["tokens"] = batch.document_sizes, np.diff(token_ends)
        rows["sentence"] = self._journal.sizes["sentences.bin"] // _SIZE.itemsize + ends - batch.document_sizes
        rows["token"] = self._journal.sizes["tokens.bin"] // itemsize + token_ends[:-1]
        for name, data in zip(_FILES, (batch.tokens, batch.sentence_sizes.astype(_SIZE), rows)):
            self._journal.append(name, data.tobytes())

    def keep(self, state: Dict[str, Any]) -> None:
        self._journal.keep(state)

    def commit(self, state: Dict[str, Any]) -> None:
        self._journal.commit(state)

    def close(self) -> None:
        self._journal.close()


class Corpus:
    """Reads what ``CorpusWriter`` wrote, with ids of type ``dtype``. Nothing of it is held in memory."""

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._tokens, self._sentences, self._documents = (os.open(folder / name, os.O_RDONLY) for name in _FILES)

    def document(self, index: int) -> StoredDocument:
        row = self._row(index)
        return StoredDocument(
            self,
            int(row["token"]),
            _read(self._sentences, int(row["sentence"]), int(row["sentences"]), _SIZE).astype(np.int64),
        )

    def size(self, index: int) -> int:
        """The tokens of a document."""
        return int(self._row(index)["tokens"])

    def tokens(self, first: int, count: int) -> np.ndarray:
        return _read(self._tokens, first, count, self._dtype)

    def _row(self, index: int) -> np.void:
        return _read(self._documents, index, 1, _ROW)[0]

    def close(self) -> None:
        for handle in (self._tokens, self._sentences, self._documents):
            os.close(handle)


class StoredDocument(Document):
    """A document whose tokens are read from the disk when they are asked for."""

    def __init__(self, corpus: Corpus, start: int, sizes: np.ndarray) -> None:
        self._corpus, self._start = corpus, start
        self.sizes = sizes
        self._ends = np.concatenate([[0], np.cumsum(sizes)])

    def tokens(self, first: int, end: int) -> List[int]:
        return self._corpus.tokens(
            self._start + int(self._ends[first]), int(self._ends[end] - self._ends[first])
        ).tolist()


def _read(handle: int, first: int, count: int, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(os.pread(handle, count * dtype.itemsize, first * dtype.itemsize), dtype)
