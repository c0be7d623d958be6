"""A folder of SQuAD inputs: OFRecord parts in the fields of the public SQuAD sets, and beside them what leads back to text.

``part-N``; ``vocab.txt``; ``questions.json``: the raw file as it was; ``features.npz``: which tokens of which question each
input holds (``features.Features``); ``meta.json``: settings, counts, checksums.
"""
from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List

from pipeloom.core.checkpoint import disk
from pipeloom.core.data.dataset import Field
from pipeloom.core.data.folders import write_folder
from pipeloom.core.data.index import make_index
from pipeloom.core.data.ofrecord import write_part
from pipeloom.core.data.record_rules import Rule, SpecialIds, answer_rules, text_rules
from pipeloom.core.data.squad.articles import read_articles
from pipeloom.core.data.squad.features import FeatureSettings, make_features
from pipeloom.core.data.tokenization import WordPieceTokenizer
from pipeloom.core.errors import UsageError, similar_path

VOCAB, QUESTIONS, FEATURES, META = "vocab.txt", "questions.json", "features.npz", "meta.json"

#: What the records of each split have besides input_ids, input_mask and segment_ids.
SPLITS = {"train": ("start_positions", "end_positions"), "eval": ("unique_ids",)}

# Raise it when the same settings give other records.
_FORMAT = 1


def fields_of(split: str, seq_length: int, vocab_size: int) -> List[Field]:
    """The fields of the public SQuAD sets, in the order in which a model reads them."""
    fields = [Field("input_ids", (seq_length,), "int32", low=0, high=vocab_size),
              *(Field(name, (seq_length,), "int32", low=0, high=2) for name in ("input_mask", "segment_ids"))]
    high = None if split == "eval" else seq_length
    return [*fields, *(Field(name, (1,), "int32", low=0, high=high) for name in SPLITS[split])]


def rules_of(split: str, folder: Path) -> List[Rule]:
    """What the records in ``folder`` keep, where its vocabulary has BERT's special tokens."""
    special = SpecialIds.read(folder / VOCAB)
    return [] if special is None else text_rules(special) if split == "eval" else answer_rules(special)


@dataclass(frozen=True)
class Conversion:
    """One raw SQuAD file, and how it becomes a folder: everything that decides the bytes."""

    source: Path
    split: str
    vocab: Path
    lowercase: bool = True
    sizes: FeatureSettings = FeatureSettings()
    parts: int = 1

    def settings(self) -> Dict[str, Any]:
        """As ``meta.json`` has them; files by their contents. Raises ``UsageError`` where one cannot be read."""
        return {"format": _FORMAT, "split": self.split, "lowercase": self.lowercase, **asdict(self.sizes), "parts": self.parts,
                "vocab": digest_of(self.vocab), "input": digest_of(self.source)}

    def write(self, folder: Path) -> Dict[str, Any]:
        """Make the folder, whole or not at all. Returns its ``meta.json``, which counts the questions that are not in it.

        Raises ``UsageError`` for what is wrong with the input, ``OSError`` where the folder cannot be written.
        """
        settings = self.settings()
        tokenizer = WordPieceTokenizer.load(self.vocab, self.lowercase)
        articles = read_articles(self.source, training=self.split == "train")
        features = make_features(articles.questions, tokenizer, self.sizes, self.split == "train", articles.left_out)
        if len(features) < self.parts:
            why = "".join(f"; {line}" for line in articles.left_out.lines())
            raise UsageError(f"{self.source} gives {len(features)} inputs, which cannot be spread over --parts {self.parts}{why}")
        names = [field.name for field in fields_of(self.split, self.sizes.seq_length, len(tokenizer))]

        def fill(private: Path) -> Dict[str, Any]:
            for part in range(self.parts):
                # In order, not dealt out: the number of a record is that of its input in the features.
                share = range(part * len(features) // self.parts, (part + 1) * len(features) // self.parts)
                inputs = map(features.inputs, share)
                write_part(private / f"part-{part}", ({name: arrays[name] for name in names} for arrays in inputs))
            make_index(private)
            tokenizer.save(private / VOCAB)
            shutil.copyfile(self.source, private / QUESTIONS)
            features.save(private / FEATURES)
            left_out = {"left_out": len(articles.left_out), "reasons": articles.left_out.lines()}
            return {"settings": settings, "num_samples": len(features), "questions": len(features.question_ids), **left_out,
                    "version_2": articles.version_2, "vocab_size": len(tokenizer)}

        write_folder(folder, fill)
        return read_meta(folder)


def read_meta(folder: Path) -> Dict[str, Any]:
    """The ``meta.json`` of a folder of SQuAD inputs. Raises ``UsageError`` where ``folder`` is not one."""
    try:
        meta = json.loads((folder / META).read_bytes())
        for where, names in _META.items():
            for name, kind in names.items():
                if not isinstance((meta[where] if where else meta)[name], kind):
                    raise TypeError(name)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"{folder} is not a folder of SQuAD inputs: make one with 'prepare squad'") from None
    return meta


# What of meta.json is read again, and its types.
_META = {"": {"num_samples": int, "questions": int, "reasons": list, "version_2": bool, "vocab_size": int},
         "settings": {"format": int, "split": str, "lowercase": bool, "seq_length": int, "doc_stride": int, "max_query_length": int,
                      "vocab": str, "input": str}}


def digest_of(path: Path) -> str:
    """Hex sha256 of a file that the user named. Raises ``UsageError``."""
    try:
        return disk.sha256_of(path)
    except FileNotFoundError:
        raise UsageError(f"no file {path}{similar_path(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
