"""A folder of SQuAD inputs: OFRecord parts in the fields of the public SQuAD sets, and beside them what leads back to
text.

``part-N``; ``vocab.txt`` or other tokenizer files; ``questions.json``: the questions in SQuAD's own form, with the ids
of ``predictions.json``; ``features.npz``: which tokens of which question each input holds (``features.Features``);
``meta.json``: settings, counts, checksums.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError, similar_path
from pipeloom.core.base.files import sha256_of
from pipeloom.plugins.libraries.ofrecord.index import make_index
from pipeloom.plugins.libraries.ofrecord.question_records import fields_of, read_meta
from pipeloom.plugins.libraries.ofrecord.records import write_part
from pipeloom.plugins.libraries.preparation.folders import write_folder
from pipeloom.plugins.libraries.questions.articles import Articles, read_articles
from pipeloom.plugins.libraries.questions.features import Features, FeatureSettings, make_features
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

QUESTIONS, FEATURES = "questions.json", "features.npz"

#: Raise it when the same settings give another folder.
FORMAT = 2


@dataclass(frozen=True)
class Conversion:
    """Raw questions, and how they become a folder: everything that decides the bytes."""

    sources: Tuple[Path, ...]
    split: str
    vocab: Path
    lowercase: Optional[bool] = None
    sizes: FeatureSettings = FeatureSettings()
    parts: int = 1

    def settings(self) -> Dict[str, Any]:
        """As ``meta.json`` has them; files by their contents. Raises ``UsageError`` where one cannot be read."""
        return {
            "format": FORMAT,
            "split": self.split,
            "lowercase": self.vocabulary.lowercases(),
            **asdict(self.sizes),
            "parts": self.parts,
            "vocab": self.vocabulary.digest(),
            "input": " ".join(map(digest_of, self.sources)),
        }

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.vocab, self.lowercase)

    def write(self, folder: Path) -> Dict[str, Any]:
        """Make the folder, whole or not at all. Returns its ``meta.json``, which counts the questions that are not in
        it.

        Raises ``UsageError`` for what is wrong with the input, ``OSError`` where the folder cannot be written.
        """
        settings = self.settings()
        tokenizer = self.vocabulary.load(special_in_text=True)  # a question may ask for "[MASK]", as in transformers
        articles = read_articles(self.sources, training=self.split == "train")
        _note_references(articles, self.split)
        features = make_features(articles.questions, tokenizer, self.sizes, self.split == "train", articles.left_out)
        if len(features) < self.parts:
            why = "".join(f"; {line}" for line in articles.left_out.lines())
            where = ", ".join(map(str, self.sources))
            raise UsageError(
                f"{where} gives {len(features)} inputs, which cannot be spread over --parts {self.parts}{why}"
            )
        names = [field.name for field in fields_of(self.split, self.sizes.seq_length, len(tokenizer))]

        def fill(private: Path) -> Dict[str, Any]:
            for part in range(self.parts):
                # In order, not dealt out: the number of a record is that of its input in the features.
                share = range(part * len(features) // self.parts, (part + 1) * len(features) // self.parts)
                inputs = map(features.inputs if tokenizer.has_segments else _one_segment(features), share)
                write_part(private / f"part-{part}", ({name: arrays[name] for name in names} for arrays in inputs))
            make_index(private)
            for name, content in self.vocabulary.beside_records().items():
                (private / name).write_bytes(content)
            (private / QUESTIONS).write_bytes(articles.to_json())
            features.save(private / FEATURES)
            left_out = {"left_out": len(articles.left_out), "reasons": [*tokenizer.notes, *articles.left_out.lines()]}
            return {
                "settings": settings,
                "num_samples": len(features),
                "questions": len(features.question_ids),
                "with_reference": sum(question.has_reference for question in articles.questions),
                "in_loss": int((features.windows[:, 3] < self.sizes.seq_length).sum()),
                **left_out,
                "version_2": articles.version_2,
                "vocab_size": len(tokenizer),
            }

        write_folder(folder, fill)
        return read_meta(folder)


def _note_references(articles: Articles, split: str) -> None:
    """Count the questions whose references are not what one would think."""
    used = "learned as unanswerable" if split == "train" else "scored by its answer, as in the official evaluation"
    for question in articles.questions:
        if not question.has_reference:
            articles.left_out.add("without an answer", question.id, "answered, not scored")
        elif question.impossible and any(answer.text.strip() for answer in question.answers):
            articles.left_out.add("though is_impossible and an answer contradict each other", question.id, used)


def _one_segment(features: Features) -> Callable[[int], Dict[str, np.ndarray]]:
    return lambda index: {**features.inputs(index), "segment_ids": np.zeros(features.seq_length, np.int32)}


def digest_of(path: Path) -> str:
    """Hex sha256 of a file that the user named. Raises ``UsageError``."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise UsageError(f"no file {path}{similar_path(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
