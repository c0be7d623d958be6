"""Dynamic masking: which tokens of a sample are masked in which epoch, a pure function of seed, epoch and record.

As BERT (Devlin et al. 2019, section 3.1) and RoBERTa (Liu et al. 2019, section 4.1): of the chosen tokens eight in ten
become the mask, one any other token, one stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Tuple

import numpy as np

#: Tokens of a sample that are not text: one before it and one behind.
FRAME = 2
#: The second word of the key of a counter-based generator keeps its streams apart.
_MASKING_STREAM = 0x3A5C0DE5EED
_MASKED, _REPLACED = 0.8, 0.9


@dataclass(frozen=True)
class MaskingRule:
    """``probability``: that a token is chosen; ``most``: tokens of a sample that are chosen at most; ``mask_id``: what
    chosen ones become; ``special_ids``: never chosen, and never in the place of another; ``vocab_size``: ids of tokens
    that may be are below it; ``seed``: of the run.
    """

    probability: float
    most: int
    mask_id: int
    special_ids: Tuple[int, ...]
    vocab_size: int
    seed: int


def most_predictions(probability: float, tokens: int) -> int:
    """Return how many of ``tokens`` tokens are chosen at most."""
    return math.ceil(round(probability * tokens, 6))


class Masker:
    """Choose tokens and change them by a rule. ``source``: the number of the data that the records are counted in."""

    def __init__(self, rule: MaskingRule, source: int = 0) -> None:
        self._rule, self._source = rule, source
        ordinary = np.ones(rule.vocab_size, bool)
        ordinary[[number for number in rule.special_ids if number < rule.vocab_size]] = False
        self._is_ordinary, self._ordinary = ordinary, np.flatnonzero(ordinary).astype(np.int32)

    def mask(self, ids: np.ndarray, epoch: int, record: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return ``ids`` with the chosen tokens changed, and the places of these, ascending; both int32.

        Of ``n`` tokens that may be chosen ``probability * n`` are, rounded up or down by chance so that this is the
        mean, as in fairseq.
        """
        rule = self._rule
        places = np.flatnonzero(self._is_ordinary[ids])
        # Raw words, which numpy keeps the same between its versions (NEP 19).
        key = np.array([rule.seed % 2**64, _MASKING_STREAM], np.uint64)
        counter = np.array([0, epoch, record, self._source], np.uint64)
        words = np.random.Philox(key=key, counter=counter)
        count = min(int(rule.probability * len(places) + _shares(words.random_raw(1))[0]), rule.most, len(places))
        order = np.argsort(words.random_raw(len(places)), kind="stable") if len(places) else places
        chosen = np.sort(places[order[:count]])
        kinds, random = _shares(words.random_raw(count)), words.random_raw(count)
        masked = ids.astype(np.int32)
        masked[chosen[kinds < _MASKED]] = rule.mask_id
        replaced = (kinds >= _MASKED) & (kinds < _REPLACED)
        if replaced.any():
            masked[chosen[replaced]] = self._ordinary[(random[replaced] % np.uint64(len(self._ordinary))).astype(int)]
        return masked, chosen.astype(np.int32)


def _shares(words: np.ndarray) -> np.ndarray:
    """Return words of 64 bits as numbers from 0 to below 1."""
    return (words >> np.uint64(11)) * 2.0**-53
