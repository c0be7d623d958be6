"""From documents to BERT's pre-training examples: masked words and next sentences.

The procedure is that of the BERT paper (Devlin et al., 2018, section 3.1 and appendix A.1, A.2). A *document* is
a list of sentences, a *sentence* a list of token ids, as :mod:`pipeloom.core.data.tokenization` gives them.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from pipeloom.core.data.tokenization import WordPieceTokenizer
from pipeloom.core.errors import UsageError

Sentence = Sequence[int]
Document = Sequence[Sentence]
Example = Dict[str, np.ndarray]
# (tokens of the first segment, of the second one, whether the second one is from another document)
Pair = Tuple[List[int], List[int], bool]

# Tokens of an example that are not text: [CLS] first [SEP] second [SEP].
_FRAME = 3


@dataclass(frozen=True)
class ExampleSettings:
    """How examples are made. Sizes are in tokens, the rest are probabilities.

    ``max_predictions`` is the most tokens that are masked in one example, ``dupe_factor`` how often each
    document is gone through (with other masks and pairs every time), ``short_seq_prob`` how often an example
    is shorter than it could be, so that the model also sees short ones.
    """

    seq_length: int = 128
    max_predictions: int = 20
    dupe_factor: int = 5
    short_seq_prob: float = 0.1
    masked_lm_prob: float = 0.15
    random_next_prob: float = 0.5

    def __post_init__(self) -> None:
        if self.seq_length < _FRAME + 2:
            raise UsageError(f"--seq_length {self.seq_length} has no room for two sentences; "
                             f"it needs at least {_FRAME + 2}")
        if self.max_predictions < 1:
            raise UsageError(f"--max_predictions {self.max_predictions} leaves nothing to learn; it needs at least 1")


class ExampleMaker:
    """Makes examples with the ids of one vocabulary.

    The same documents, settings and state of ``rng`` give the same examples.
    """

    def __init__(self, tokenizer: WordPieceTokenizer, settings: ExampleSettings) -> None:
        self.settings = settings
        self._pad_id = tokenizer.pad_id
        self._cls_id = tokenizer.cls_id
        self._sep_id = tokenizer.sep_id
        self._mask_id = tokenizer.mask_id
        # What may stand in for a masked word: a special token there would teach a wrong meaning of it.
        self._ordinary_ids = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.special_ids)

    def examples(self, documents: Sequence[Document], rng: np.random.Generator) -> Iterator[Example]:
        """All examples of ``documents``, one document after another, the whole ``dupe_factor`` times.

        Documents and sentences without tokens are left out. Raises ``UsageError`` where fewer than two
        documents have text: a random next sentence comes from another one.
        """
        documents = [kept for kept in ([sentence for sentence in document if len(sentence)] for document in documents)
                     if kept]
        if len(documents) < 2:
            raise UsageError(f"next-sentence examples need at least 2 documents with text, here are {len(documents)}; "
                             "separate the documents, or give more text")
        for _ in range(self.settings.dupe_factor):
            for index in range(len(documents)):
                for pair in self.pairs(documents, index, rng):
                    yield self.example(*pair, rng=rng)

    def pairs(self, documents: Sequence[Document], index: int, rng: np.random.Generator) -> Iterator[Pair]:
        """The pairs of segments of one document, packed with whole sentences up to the target length."""
        document = documents[index]
        longest = self.settings.seq_length - _FRAME
        position = 0
        while position < len(document):
            # Each example has its own target length.
            target = longest if rng.random() >= self.settings.short_seq_prob else int(rng.integers(2, longest + 1))
            end = _take(document, position, target)
            count = end - position
            first_count = 1 if count == 1 else int(rng.integers(1, count))
            first = _flatten(document[position : position + first_count])
            # A lone sentence has no next one here, so its pair is always a random one.
            is_random = count == 1 or rng.random() < self.settings.random_next_prob
            if is_random:
                other = documents[_other_than(index, len(documents), rng)]
                start = int(rng.integers(len(other)))
                second = _flatten(other[start : _take(other, start, target - len(first))])
                end = position + first_count  # the sentences that were not used come in the next pair
            else:
                second = _flatten(document[position + first_count : end])
            yield (*_truncate(first, second, longest, rng), is_random)
            position = end

    def example(self, first: List[int], second: List[int], is_random: bool, rng: np.random.Generator) -> Example:
        """One example as the arrays that a model reads; their order and types are those of the OFRecord sets.

        ``input_ids``, ``input_mask``, ``segment_ids``: int32 ``(seq_length,)``; ``masked_lm_positions``,
        ``masked_lm_ids``: int32 ``(max_predictions,)``; ``masked_lm_weights``: float32 ``(max_predictions,)``;
        ``next_sentence_labels``: int32 ``(1,)``, 0 where second follows first, 1 where it is random.
        """
        settings = self.settings
        length = len(first) + len(second) + _FRAME
        input_ids = np.full(settings.seq_length, self._pad_id, dtype=np.int32)
        input_ids[:length] = [self._cls_id, *first, self._sep_id, *second, self._sep_id]
        segment_ids = np.zeros(settings.seq_length, dtype=np.int32)
        segment_ids[len(first) + 2 : length] = 1
        input_mask = np.zeros(settings.seq_length, dtype=np.int32)
        input_mask[:length] = 1

        positions = self._choose_positions(len(first), length, rng)
        count = len(positions)
        original_ids = input_ids[positions]
        input_ids[positions] = self._masked(original_ids, rng)
        masked_lm_positions = np.zeros(settings.max_predictions, dtype=np.int32)
        masked_lm_positions[:count] = positions
        masked_lm_ids = np.zeros(settings.max_predictions, dtype=np.int32)
        masked_lm_ids[:count] = original_ids
        masked_lm_weights = np.zeros(settings.max_predictions, dtype=np.float32)
        masked_lm_weights[:count] = 1.0
        return {
            "input_ids": input_ids,
            "input_mask": input_mask,
            "segment_ids": segment_ids,
            "masked_lm_positions": masked_lm_positions,
            "masked_lm_ids": masked_lm_ids,
            "masked_lm_weights": masked_lm_weights,
            "next_sentence_labels": np.array([is_random], dtype=np.int32),
        }

    def _choose_positions(self, first_length: int, length: int, rng: np.random.Generator) -> np.ndarray:
        """Where to mask, ascending: never [CLS] or [SEP]; 15 % of all tokens, at least 1."""
        wanted = max(1, round(length * self.settings.masked_lm_prob))
        count = min(wanted, self.settings.max_predictions, length - _FRAME)
        chosen = np.sort(rng.permutation(length - _FRAME)[:count])
        # chosen counts words only: the first segment begins after [CLS], the second one after a [SEP] too.
        return chosen + np.where(chosen < first_length, 1, 2)

    def _masked(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the model sees in their place: 80 % [MASK], 10 % the word itself, 10 % a random word."""
        kind = rng.random(len(ids))
        random_ids = self._ordinary_ids[rng.integers(len(self._ordinary_ids), size=len(ids))]
        return np.where(kind < 0.8, self._mask_id, np.where(kind < 0.9, ids, random_ids))


def _take(document: Document, start: int, target: int) -> int:
    """The end of the run of sentences from ``start`` that reaches ``target`` tokens: at least one sentence."""
    end, length = start, 0
    while end < len(document) and (end == start or length < target):
        length += len(document[end])
        end += 1
    return end


def _flatten(sentences: Sequence[Sentence]) -> List[int]:
    return [token for sentence in sentences for token in sentence]


def _other_than(index: int, count: int, rng: np.random.Generator) -> int:
    """One of ``count`` documents, each but ``index`` equally likely."""
    other = int(rng.integers(count - 1))
    return other + 1 if other >= index else other


def _truncate(first: List[int], second: List[int], longest: int,
              rng: np.random.Generator) -> Tuple[List[int], List[int]]:
    """Takes tokens off the longer segment, each from a random one of its ends, until both fit ``longest``."""
    spans = [[0, len(first)], [0, len(second)]]
    excess = len(first) + len(second) - longest
    # Front or back at random, so that the model does not learn that segments begin or end at a sentence.
    for from_front in rng.random(max(excess, 0)) < 0.5:
        longer = spans[0] if spans[0][1] - spans[0][0] > spans[1][1] - spans[1][0] else spans[1]
        if from_front:
            longer[0] += 1
        else:
            longer[1] -= 1
    return first[spans[0][0] : spans[0][1]], second[spans[1][0] : spans[1][1]]
