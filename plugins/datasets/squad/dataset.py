"""A folder of SQuAD inputs as a dataset, and what turns a model's logits for it into exact match, F1 and the files of
answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import replace_file
from pipeloom.core.contract.dataset import Dataset, Field, Scorer
from pipeloom.plugins.datasets.squad.answers import AnswerSettings, Prediction, predict
from pipeloom.plugins.datasets.squad.articles import Question, read_articles
from pipeloom.plugins.datasets.squad.features import Features
from pipeloom.plugins.datasets.squad.records import FEATURES, FORMAT, QUESTIONS
from pipeloom.plugins.datasets.squad.scoring import figures
from pipeloom.plugins.libraries.ofrecord.question_records import fields_of, read_meta, rules_of
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

#: The outputs that answers are made of, each float32 ``(samples, seq_length)``.
LOGITS = ("start_logits", "end_logits")

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

    def scorer(self) -> Optional[SquadScorer]:
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
        return SquadScorer(articles.questions, features, self._answers, articles.version_2, self._f1_unit)

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


class SquadScorer(Scorer):
    """Collects the logits of inputs and answers the questions; its samples are the inputs of ``features``.

    With ``may_be_impossible`` by the rules of SQuAD 2.0. A question counts once its first window was added, and is
    answered from those of its windows that were: over the first samples of a set all but perhaps the last one. Where
    the context has no token the answer is "". ``f1_unit`` is what F1 counts.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        features: Features,
        settings: AnswerSettings,
        may_be_impossible: bool,
        f1_unit: str = "words",
    ) -> None:
        self._questions = list(questions)
        self._contexts = {question.id: question.context for question in questions}
        self._features, self._settings, self._may_be_impossible = features, settings, may_be_impossible
        self._f1_unit = f1_unit
        self._logits: Dict[int, Tuple[np.ndarray, np.ndarray]] = {}

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        for index, starts, ends in zip(indices, *(outputs[name] for name in LOGITS)):
            self._logits[int(index)] = np.array(starts), np.array(ends)

    def predictions(self) -> Dict[str, Prediction]:
        """The answer to each question by its id, in the order of the questions.

        Raises ``RunError`` for logits that are not finite.
        """
        found = {}
        for number, question_id in enumerate(self._features.question_ids):
            inputs = self._features.of_question(number)
            if not inputs and (inputs.start == 0 or inputs.start - 1 in self._logits):
                found[question_id] = Prediction("", [], 0.0 if self._may_be_impossible else None)
            if not inputs or inputs.start not in self._logits:
                continue
            windows, starts, ends = zip(
                *(
                    (window, *self._logits[index])
                    for index, window in zip(inputs, self._features.windows_of(number))
                    if index in self._logits
                )
            )
            if not all(np.isfinite(values).all() for values in (*starts, *ends)):
                raise RunError(
                    f"the model's logits for question {question_id} are not finite: try a lower --learning_rate"
                )
            found[question_id] = predict(
                self._contexts[question_id], windows, starts, ends, self._settings, self._may_be_impossible
            )
        return found

    def finish(self, folder: Optional[Path]) -> Dict[str, float]:
        """``exact_match`` and ``f1`` in percent; for SQuAD 2.0 also those over questions with and without an answer.

        Nothing where no question has a reference.

        Writes ``predictions.json`` (the official evaluation reads it), ``nbest.json`` and for SQuAD 2.0
        ``null_odds.json``, as run_squad.py does.
        """
        predictions = self.predictions()
        if folder is not None:
            files: Dict[str, Any] = {
                "predictions.json": {name: prediction.text for name, prediction in predictions.items()},
                "nbest.json": {name: _candidates(prediction) for name, prediction in predictions.items()},
            }
            if self._may_be_impossible:
                files["null_odds.json"] = {name: prediction.null_odds for name, prediction in predictions.items()}
            for name, content in files.items():
                _write(folder / name, content)
        asked = [question for question in self._questions if question.id in predictions]
        texts = {name: prediction.text for name, prediction in predictions.items()}
        return figures(asked, texts, self._may_be_impossible, self._f1_unit)


def _candidates(prediction: Prediction) -> List[Dict[str, Any]]:
    return [
        {
            "text": candidate.text,
            "probability": candidate.probability,
            "start_logit": candidate.start_logit,
            "end_logit": candidate.end_logit,
        }
        for candidate in prediction.candidates
    ]


def _write(path: Path, content: Any) -> None:
    try:
        replace_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
