"""From a model's logits back to text: the best answers to a question over all windows of its context.

The procedure is that of BERT's run_squad.py with two differences: all spans that may be an answer are compared, not
only those of the 20 best starts and ends, so that there always is an answer; and its text is cut out of the context by
the characters of its tokens, where run_squad.py aligns the tokens' text with that of whole words.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions.features import Window

_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class AnswerSettings:
    """How many answers to give, of how many tokens at most, and by how much "no answer" must be ahead of the best
    answer (2.0).
    """

    n_best_size: int = 20
    max_answer_length: int = 30
    null_score_diff_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} is too small; it needs at least 1")


@dataclass(frozen=True)
class Candidate:
    """A possible answer: ``text`` are the characters ``start <= i < end`` of the context, and "" stands for no answer.

    ``probability`` is its share among the candidates that are given with it.
    """

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float
    probability: float = 0.0

    @property
    def score(self) -> float:
        return self.start_logit + self.end_logit


@dataclass(frozen=True)
class Prediction:
    """The answer to a question, the candidates by falling score, and for SQuAD 2.0 by how much "no answer" is ahead of
    the best one.
    """

    text: str
    candidates: List[Candidate]
    null_odds: Optional[float] = None


def predict(
    context: str,
    windows: Sequence[Window],
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    settings: AnswerSettings,
    may_be_impossible: bool,
) -> Prediction:
    """The answer to one question from the logits ``(seq_length,)`` of each of its windows.

    An answer lies in one window, ends not before it starts, and starts at a token that has most context there. With
    ``may_be_impossible`` (SQuAD 2.0) "no answer" is a candidate too, with the lowest score that a window gives the
    [CLS] token, and the answer where that is ahead of the best text by more than ``null_score_diff_threshold``.
    """
    spans: List[Tuple[float, int, int, int]] = []
    for number, (window, starts, ends) in enumerate(zip(windows, start_logits, end_logits)):
        spans += [(score, number, first, last) for score, first, last in _best_spans(window, starts, ends, settings)]
    spans.sort(key=lambda span: -span[0])  # stable: of equal ones the first in the context
    candidates: List[Candidate] = []
    seen = set()
    for _, number, first, last in spans:
        window = windows[number]
        start, end = int(window.spans[first, 0]), _end_of_character(context, int(window.spans[last, 1]))
        if context[start:end] not in seen:
            seen.add(context[start:end])
            logits = (
                float(start_logits[number][window.position + first]),
                float(end_logits[number][window.position + last]),
            )
            candidates.append(Candidate(context[start:end], start, end, *logits))
            if len(candidates) == settings.n_best_size:
                break
    best = candidates[0]
    if not may_be_impossible:
        return Prediction(best.text, _with_probabilities(candidates))
    nulls = [Candidate("", 0, 0, float(starts[0]), float(ends[0])) for starts, ends in zip(start_logits, end_logits)]
    null = min(nulls, key=lambda candidate: candidate.score)
    ranked = sorted([*candidates, null], key=lambda candidate: -candidate.score)[: settings.n_best_size]
    if null not in ranked:
        ranked.append(null)
    odds = null.score - best.score
    return Prediction("" if odds > settings.null_score_diff_threshold else best.text, _with_probabilities(ranked), odds)


def _best_spans(
    window: Window, start_logits: np.ndarray, end_logits: np.ndarray, settings: AnswerSettings
) -> List[Tuple[float, int, int]]:
    """The best (score, first token, last token) of a window, by falling score."""
    count = len(window.spans)
    starts, ends = (
        np.asarray(logits, np.float64)[window.position : window.position + count]
        for logits in (start_logits, end_logits)
    )
    last = np.arange(count)[:, None] + np.arange(min(settings.max_answer_length, count))  # (tokens, lengths)
    allowed = window.max_context[:, None] & (last < count)
    scores = np.where(allowed, starts[:, None] + ends[np.minimum(last, count - 1)], -np.inf).ravel()
    # Spans with the same text count once, so more of them are kept than answers are wanted.
    keep = min(settings.n_best_size**2, int(allowed.sum()))
    if keep == 0:
        return []
    chosen = np.flatnonzero(scores >= np.partition(scores, -keep)[-keep])
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:keep]
    firsts = chosen // last.shape[1]
    return list(zip(scores[chosen].tolist(), firsts.tolist(), last.ravel()[chosen].tolist()))


def _end_of_character(context: str, end: int) -> int:
    """Marks that stand as characters of their own after a letter belong to it, though where accents are stripped they
    are in no token.

    Accents, and vowel signs of Indic scripts and of Thai: Unicode's category M, not only what has a combining class.
    A joiner after a letter decides its shape (Unicode Standard Annex 29 counts it as part of it), and is in no token
    either.
    """
    while end < len(context) and (unicodedata.category(context[end])[0] == "M" or context[end] in _JOINERS):
        end += 1
    return end


def _with_probabilities(candidates: Sequence[Candidate]) -> List[Candidate]:
    scores = np.array([candidate.score for candidate in candidates])
    weights = np.exp(scores - scores.max())
    return [
        replace(candidate, probability=float(share)) for candidate, share in zip(candidates, weights / weights.sum())
    ]
