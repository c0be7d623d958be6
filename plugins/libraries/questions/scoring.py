"""Exact match and F1 by the rules of SQuAD's official evaluations: evaluate-v1.1.py and evaluate-v2.0.py.

By the characters instead of the words, for languages that put no spaces between them, by those of MLQA's official
evaluation for Chinese (Lewis et al., 2020; mlqa_evaluation_v1.py), with the Japanese syllables as characters too.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from typing import Dict, Mapping, Sequence, Tuple

from pipeloom.plugins.libraries.questions.articles import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# ASCII alone, as the official rules have it: a dash or a quote of another kind is part of a word.
_PUNCTUATION = str.maketrans("", "", string.punctuation)


#: What F1 may count.
UNITS = ("words", "characters")
# Each is a word: ideographs, also the rarer ones, the signs for a repeated one and for zero, hiragana and katakana.
_CHARACTER = (
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_SEGMENT = re.compile(f"[{_CHARACTER}]|[^{_CHARACTER}\\s]+")


def normalize(text: str, unit: str = "words") -> str:
    """``text`` in small letters, without punctuation, articles and superfluous white space, in this order.

    With ``unit`` "characters" the punctuation of all scripts goes (Unicode's categories P, and ASCII's), articles stay,
    and there is a space around each Chinese or Japanese character; what stands between those is words as usual.
    """
    text = text.lower()
    if unit == "words":
        return " ".join(_ARTICLES.sub(" ", text.translate(_PUNCTUATION)).split())
    kept = (character for character in text if not unicodedata.category(character).startswith("P"))
    return " ".join(_SEGMENT.findall("".join(kept).translate(_PUNCTUATION)))


def exact_match(prediction: str, reference: str, unit: str = "words") -> float:
    """1.0 where both are the same when normalized, else 0.0."""
    return float(normalize(prediction, unit) == normalize(reference, unit))


def f1(prediction: str, reference: str, version_2: bool = False, unit: str = "words") -> float:
    """The harmonic mean of precision and recall of the normalized words, each counted as often as it stands there.

    Where one side has no words it is 0.0; by the rules of version 2, 1.0 if both have none.
    """
    predicted, wanted = normalize(prediction, unit).split(), normalize(reference, unit).split()
    if version_2 and not (predicted and wanted):
        return float(predicted == wanted)
    same = sum((Counter(predicted) & Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def score(
    prediction: str, references: Sequence[str], version_2: bool = False, unit: str = "words"
) -> Tuple[float, float]:
    """Exact match and F1, each the best over the references. By the rules of version 2, references without words do not
    count, and where none is left the right prediction is "".
    """
    if version_2:
        references = [reference for reference in references if normalize(reference, unit)] or [""]
    return (
        max(exact_match(prediction, reference, unit) for reference in references),
        max(f1(prediction, reference, version_2, unit) for reference in references),
    )


def figures(
    questions: Sequence[Question], predictions: Mapping[str, str], version_2: bool, unit: str = "words"
) -> Dict[str, float]:
    """``exact_match`` and ``f1`` in percent over those of ``questions`` that have a reference; nothing where none has.

    With ``version_2`` also ``has_answer_exact_match``, ``has_answer_f1`` and ``no_answer_exact_match``,
    ``no_answer_f1``, where there are such questions. Of questions with the same id each counts, and with ``version_2``
    the last one, as in the official evaluations. Raises ``KeyError`` for a question without a prediction.
    """
    asked = [question for question in questions if question.has_reference]
    if version_2:
        asked = list({question.id: question for question in asked}.values())
    scores = [
        score(predictions[question.id], [answer.text for answer in question.answers], version_2, unit)
        for question in asked
    ]
    groups = {"": scores}
    if version_2:
        groups["has_answer_"] = [pair for question, pair in zip(asked, scores) if question.answers]
        groups["no_answer_"] = [pair for question, pair in zip(asked, scores) if not question.answers]
    return {
        f"{prefix}{name}": 100.0 * sum(pair[place] for pair in group) / len(group)
        for prefix, group in groups.items()
        if group
        for place, name in enumerate(("exact_match", "f1"))
    }
