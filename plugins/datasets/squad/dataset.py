"""A folder of SQuAD inputs as a dataset, and what turns a model's logits for it into exact match, F1 and the files of
answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.plugins.datasets.squad.records import FEATURES, FORMAT, QUESTIONS
from pipeloom.plugins.libraries.ofrecord.question_records import fields_of, read_meta, rules_of
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.questions.answers import AnswerSettings
from pipeloom.plugins.libraries.questions.articles import read_articles
from pipeloom.plugins.libraries.questions.features import Features
from pipeloom.plugins.libraries.questions.scorer import LOGITS, AnswerScorer
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

_LABELS = ("start_positions", "end_positions")


class SquadDataset(Dataset):
    """The inputs in a folder of ``prepare squad``, for training or for evaluation as the folder has it.

    Inputs for evaluation have the fields of the public sets, and where any answer is known ``start_positions`` and
    ``end_positions`` besides, so that a loss can be measured: of the first reference answer that stands where it says,
    and outside of the input where there is none. ``source`` is where the user got them from, for the log;
    ``vocab_size`` may be larger than the vocabulary of the folder; ``f1_unit`` is what F1 counts. Raises ``UsageError``
    where the folder is not whole.
    """

    task = "question_answering"

    def __init__(
        self, folder: Path, source: Any, vocab_size: int, answers: AnswerSettings, f1_unit: str = "words"
    ) -> None:
        self.path, self._source, self._answers, self._f1_unit = folder, source, answers, f1_unit
        self._meta = read_meta(folder)
        if self._meta["settings"]["format"] != FORMAT:
            raise UsageError(
                f"{folder} was made by another version of 'prepare squad': make it again with --overwrite true"
            )
        self.vocab_size = vocab_size
        self.split, seq_length = self._meta["settings"]["split"], self._meta["settings"]["seq_length"]
        self._records = OFRecordDataset(
            folder,
            fields_of(self.split, seq_length, vocab_size),
            self.task,
            vocab_size,
            rules=rules_of(self.split, folder),
        )
        if len(self._records) != self._meta["num_samples"]:
            raise UsageError(
                f"{folder} has {len(self._records)} records, its meta.json says {self._meta['num_samples']}: "
                "make it again with 'prepare squad'"
            )
        self.vocabulary = Vocabulary.beside(folder, self._meta["settings"]["lowercase"])
        self.fields = dict(self._records.fields)
        self._features: Optional[Features] = None
        if self.split == "eval":
            self.scored = LOGITS
            self.has_references = self._meta["with_reference"] > 0
            if self._meta["in_loss"]:
                # seq_length itself is a place outside, as the task has it for samples that count in no loss
                self.fields.update((name, Field(name, (1,), "int32", low=0, high=seq_length + 1)) for name in _LABELS)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        """As of ``OFRecordDataset``."""
        values = self._records.read(indices, [name for name in names if name in self._records.fields])
        if len(values) < len(names):
            places = self._all_features().windows[np.asarray(indices, np.int64), 3:]
            values.update((name, places[:, [column]]) for column, name in enumerate(_LABELS) if name in names)
        return {name: values[name] for name in names}

    def scorer(self) -> Optional[AnswerScorer]:
        """For evaluation: figures by the official rules of the file's version."""
        if self.split == "train":
            return None
        articles, features = read_articles(self.path / QUESTIONS, training=False), self._all_features()
        missing = set(features.question_ids).difference(question.id for question in articles.questions)
        if missing:
            raise UsageError(
                f"{self.path / QUESTIONS} lacks {len(missing)} of the questions in {FEATURES}, for instance "
                f"{min(missing)}: "
                "make the folder again with 'prepare squad'"
            )
        return AnswerScorer(articles.questions, features, self._answers, articles.version_2, self._f1_unit)

    def describe(self) -> str:
        reasons = "".join(f"; {reason}" for reason in self._meta["reasons"])
        return f"{len(self)} inputs of {self._meta['questions']} questions in {self._source}{reasons}"

    def fingerprint(self) -> str:
        """That of the records, which were made of the questions."""
        return self._records.fingerprint()

    def _all_features(self) -> Features:
        if self._features is None:
            self._features = Features.load(self.path / FEATURES)
            if len(self._features) != len(self):
                raise UsageError(
                    f"{self.path / FEATURES} has {len(self._features)} inputs, the records are {len(self)}: "
                    "make the folder again with 'prepare squad'"
                )
        return self._features
