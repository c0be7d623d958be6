"""The folder that a file of labelled texts becomes in the cache: tokens of every text, and its label as it stood there.

``tokens.npy`` int32, those of all texts one after the other, not cut; ``lengths.npy`` int32 ``(rows, 2)``: how many
belong to the first and to the second text; ``rows.npy`` int32 ``(rows, 3)``: number of the row, its line, and its label
among the different ones in ``meta.json``, -1 for none. Beside them tokenizer files. How classes are numbered and how
long an input is are no part of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError, similar_path
from pipeloom.core.base.files import sha256_of
from pipeloom.plugins.libraries.classification.columns import ColumnNames
from pipeloom.plugins.libraries.classification.framing import Frame
from pipeloom.plugins.libraries.classification.rows import LabelledTexts, read_rows, unique
from pipeloom.plugins.libraries.preparation.folders import ensure_folder, write_folder
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

#: Raise it when the same settings give another folder.
FORMAT = 1
_TOKENS, _LENGTHS, _ROWS = "tokens.npy", "lengths.npy", "rows.npy"
_AT_ONCE = 4096


@dataclass(frozen=True)
class TextEncoding:
    """A file, and how it becomes a folder: everything that decides the bytes."""

    source: Path
    columns: ColumnNames
    quoted: Optional[bool]
    vocabulary: Vocabulary

    def folder(self) -> "EncodedTexts":
        """Return the folder of the cache, made where it is not there. Raises ``UsageError``."""
        settings = {
            "format": FORMAT,
            **asdict(self.columns),
            "quoted": self.quoted,
            # Two formats may share their bytes: what a file is says its name too.
            "endings": "".join(self.source.suffixes).lower(),
            "input": _digest_of(self.source),
            "vocab": self.vocabulary.digest(),
            "lowercase": self.vocabulary.lowercases(),
        }
        identity = json.dumps(settings, sort_keys=True)
        return EncodedTexts(ensure_folder("classification", identity, self._write, what="the tokens"), self.source)

    def _write(self, folder: Path) -> None:
        texts = read_rows(self.source, self.columns, self.quoted)
        tokenizer = self.vocabulary.load(special_in_text=True)  # as in transformers
        labels, numbers = unique([row.label for row in texts.rows if row.label is not None])

        def fill(private: Path) -> Dict[str, Any]:
            tokens, lengths = _encode(tokenizer, texts)
            rows = [
                (row.number, row.line, -1 if row.label is None else numbers[row.label])  # the label last
                for row in texts.rows
            ]
            for name, array in ((_TOKENS, tokens), (_LENGTHS, lengths), (_ROWS, np.array(rows, np.int32))):
                np.save(private / name, array)
            for name, content in self.vocabulary.beside_records().items():
                (private / name).write_bytes(content)
            return {
                "labels": labels,
                "columns": texts.columns,
                "has_pairs": texts.has_pairs,
                "vocab_size": len(tokenizer),
                "lowercase": self.vocabulary.lowercases(),
                "frame": asdict(Frame.of(tokenizer)),
                "notes": [*tokenizer.notes, *texts.notes()],
            }

        write_folder(folder, fill)


def _encode(tokenizer: Any, texts: LabelledTexts) -> Tuple[np.ndarray, np.ndarray]:
    found: List[np.ndarray] = []
    lengths = np.zeros((len(texts.rows), 2), np.int32)
    for start in range(0, len(texts.rows), _AT_ONCE):
        some = texts.rows[start : start + _AT_ONCE]
        pairs = [text for row in some for text in (row.text, row.pair or "")]
        encoded = tokenizer.encode_batch(pairs)
        lengths[start : start + len(some)] = np.array([len(ids) for ids in encoded]).reshape(-1, 2)
        found.append(np.fromiter((number for ids in encoded for number in ids), np.int32))
    return np.concatenate(found), lengths


def _digest_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise UsageError(f"no file {path}{similar_path(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


class EncodedTexts:
    """Such a folder, opened; ``source`` is the file that it was made of."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path, self.source = path, source
        try:
            self.meta = json.loads((path / "meta.json").read_bytes())
            self.frame = Frame(**self.meta["frame"])
            self._tokens = np.load(path / _TOKENS, mmap_mode="r")
            self._lengths, rows = np.load(path / _LENGTHS), np.load(path / _ROWS)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UsageError(f"{path} is damaged ({error}): remove it, and it is made again") from None
        self.numbers, self.lines, self._label = rows.T
        self._starts = np.concatenate([[0], np.cumsum(self._lengths.sum(axis=1), dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def has_labels(self) -> bool:
        return bool(self.meta["labels"])

    @property
    def labels(self) -> Sequence[str]:
        """The different labels, as they stand in the file."""
        return self.meta["labels"]

    def label_of(self, row: int) -> str:
        return self.labels[self._label[row]]

    def values(self, by_label: Sequence[Any], dtype: Any) -> np.ndarray:
        """Return for each row the entry of ``by_label`` at the place of its label in ``labels``."""
        return np.array(by_label, dtype)[self._label]

    def texts(self, row: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Return the tokens of the first and, where the file has pairs, of the second text."""
        start, middle = int(self._starts[row]), int(self._starts[row] + self._lengths[row, 0])
        first = np.asarray(self._tokens[start:middle])
        return first, np.asarray(self._tokens[middle : self._starts[row + 1]]) if self.meta["has_pairs"] else None

    @cached_property
    def longest(self) -> int:
        """The tokens of the longest input, were it not cut."""
        return int(self._lengths.sum(axis=1).max()) + self.frame.size(self.meta["has_pairs"])

    def longer_than(self, seq_length: int) -> int:
        """Return how many inputs are cut at ``seq_length``."""
        return int((self._lengths.sum(axis=1) + self.frame.size(self.meta["has_pairs"]) > seq_length).sum())
