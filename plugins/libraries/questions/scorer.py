"""From the logits of inputs to answers, figures and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import replace_file
from pipeloom.core.contract.dataset import Scorer
from pipeloom.plugins.libraries.questions.answers import AnswerSettings, Prediction, predict
from pipeloom.plugins.libraries.questions.articles import Question
from pipeloom.plugins.libraries.questions.features import Features
from pipeloom.plugins.libraries.questions.scoring import figures

#: The outputs of a model that say where an answer starts and ends.
LOGITS = ("start_logits", "end_logits")


class AnswerScorer(Scorer):
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
