"""Exact match and F1 by the rules of SQuAD's official evaluations: evaluate-v1.1.py and evaluate-v2.0.py."""
from __future__ import annotations

import re
import string
from collections import Counter
from typing import Dict, Mapping, Sequence, Tuple

from pipeloom.core.data.squad.articles import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# ASCII alone, as the official rules have it: a dash or a quote of another kind is part of a word.
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """``text`` in small letters, without punctuation, articles and superfluous white space, in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1.0 where both are the same when normalized, else 0.0."""
    return float(normalize(prediction) == normalize(reference))


def f1(prediction: str, reference: str, version_2: bool = False) -> float:
    """The harmonic mean of precision and recall of the normalized words, each counted as often as it stands there.

    Where one side has no words it is 0.0; by the rules of version 2, 1.0 if both have none.
    """
    predicted, wanted = normalize(prediction).split(), normalize(reference).split()
    if version_2 and not (predicted and wanted):
        return float(predicted == wanted)
    same = sum((Counter(predicted) & Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def score(prediction: str, references: Sequence[str], version_2: bool = False) -> Tuple[float, float]:
    """Exact match and F1, each the best over the references. By the rules of version 2, references without words do not count,
    and where none is left the right prediction is ""."""
    if version_2:
        references = [reference for reference in references if normalize(reference)] or [""]
    return (max(exact_match(prediction, reference) for reference in references),
            max(f1(prediction, reference, version_2) for reference in references))


def figures(questions: Sequence[Question], predictions: Mapping[str, str], version_2: bool) -> Dict[str, float]:
    """``exact_match`` and ``f1`` in percent over ``questions``, which are one at least.

    With ``version_2`` also ``has_answer_exact_match``, ``has_answer_f1`` and ``no_answer_exact_match``, ``no_answer_f1``,
    where there are such questions. Raises ``KeyError`` for a question without a prediction.
    """
    scores = {question.id: score(predictions[question.id], [answer.text for answer in question.answers], version_2) for question in questions}
    groups = {"": questions}
    if version_2:
        groups["has_answer_"] = [question for question in questions if question.answers]
        groups["no_answer_"] = [question for question in questions if not question.answers]
    return {f"{prefix}{name}": 100.0 * sum(scores[question.id][place] for question in group) / len(group)
            for prefix, group in groups.items() if group for place, name in enumerate(("exact_match", "f1"))}
