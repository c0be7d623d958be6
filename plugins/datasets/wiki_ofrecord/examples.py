"""From documents to BERT's pre-training examples: masked words and next sentences.

The procedure is that of the BERT paper (Devlin et al., 2018, section 3.1 and appendix A.1, A.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

Example = Dict[str, np.ndarray]
# (tokens of the first segment, of the second one, whether the second one is from another document)
Pair = Tuple[List[int], List[int], bool]


class Document:
    """Sentences of token ids. ``sizes``: the number of tokens of each sentence, int64 ``(sentences,)``, all above 0."""

    sizes: np.ndarray

    def tokens(self, first: int, end: int) -> List[int]:
        """The ids of the sentences ``first`` to ``end`` (without), one after another."""
        raise NotImplementedError("abstract")


class Documents:
    """Where the second segment of a pair may come from."""

    def other_than(self, index: int, rng: np.random.Generator) -> Document:
        """Any document but ``index``, each equally likely."""
        raise NotImplementedError("abstract")


# Tokens of an example that are not text: [CLS] first [SEP] second [SEP].
_FRAME = 3


@dataclass(frozen=True)
class ExampleSettings:
    """How examples are made. Sizes are in tokens, the rest are probabilities.

    ``max_predictions`` is the most tokens that are masked in one example, ``short_seq_prob`` how often an example is
    shorter than it could be, so that the model also sees short ones. With ``whole_word_masking`` all pieces of a word
    are masked, or none.
    """

    seq_length: int = 128
    max_predictions: int = 20
    short_seq_prob: float = 0.1
    masked_lm_prob: float = 0.15
    random_next_prob: float = 0.5
    whole_word_masking: bool = False

    def __post_init__(self) -> None:
        if self.seq_length < _FRAME + 2:
            raise UsageError(
                f"--seq_length {self.seq_length} has no room for two sentences; it needs at least {_FRAME + 2}"
            )
        if self.max_predictions < 1:
            raise UsageError(f"--max_predictions {self.max_predictions} leaves nothing to learn; it needs at least 1")

    @property
    def longest(self) -> int:
        """The most tokens of text in an example."""
        return self.seq_length - _FRAME


class ExampleMaker:
    """Makes examples with the ids of one vocabulary. The same documents, settings and state of ``rng`` give the same
    examples.
    """

    def __init__(self, tokenizer: WordPieceTokenizer, settings: ExampleSettings) -> None:
        self.settings = settings
        self._pad_id = tokenizer.pad_id
        self._cls_id = tokenizer.cls_id
        self._sep_id = tokenizer.sep_id
        self._mask_id = tokenizer.mask_id
        # What may stand in for a masked word: a special token there would teach a wrong meaning of it.
        self._ordinary_ids = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.special_ids)
        self._continues = np.array(tokenizer.continuing)  # by id, whether it is not the first piece of a word

    def examples(
        self, document: Document, index: int, documents: Documents, rng: np.random.Generator
    ) -> Iterator[Example]:
        """The examples of one document, which is the one with the number ``index`` in ``documents``."""
        for pair in self.pairs(document, index, documents, rng):
            yield self.example(*pair, rng=rng)

    def pairs(self, document: Document, index: int, documents: Documents, rng: np.random.Generator) -> Iterator[Pair]:
        """The pairs of segments of one document, packed with whole sentences up to the target length.

        Whether a pair is a random one is decided by the same coin everywhere, so the labels are balanced however long
        the documents are.
        """
        longest = self.settings.longest
        sizes = document.sizes
        position = 0
        while position < len(sizes):
            # Each example has its own target length.
            target = longest if rng.random() >= self.settings.short_seq_prob else int(rng.integers(2, longest + 1))
            end = _take(sizes, position, target, at_least=2)
            is_random = rng.random() < self.settings.random_next_prob
            if end - position > 1:
                middle = position + int(rng.integers(1, end - position))
                first, rest = document.tokens(position, middle), document.tokens(middle, end)
            else:
                # The last sentence alone: it is the first segment of a random pair, or both segments are spans of it.
                middle = end
                tokens = document.tokens(position, end)
                is_random = is_random or len(tokens) < 2
                cut = len(tokens) if is_random else int(rng.integers(1, len(tokens)))
                first, rest = tokens[:cut], tokens[cut:]
            if is_random:
                other = documents.other_than(index, rng)
                start = int(rng.integers(len(other.sizes)))
                rest = other.tokens(start, _take(other.sizes, start, target - len(first), at_least=1))
                end = middle  # the sentences that were not used come in the next pair
            yield (*_truncate(first, rest, longest, rng), is_random)
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

        positions = self._choose_positions(input_ids[:length], len(first), rng)
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

    def _choose_positions(self, ids: np.ndarray, first_length: int, rng: np.random.Generator) -> np.ndarray:
        """Where to mask the ``length`` tokens of an example, ascending: never [CLS] or [SEP]; 15 % of all tokens, at
        least 1.
        """
        length = len(ids)
        wanted = max(1, round(length * self.settings.masked_lm_prob))
        count = min(wanted, self.settings.max_predictions, length - _FRAME)
        # The places of text: the first segment begins after [CLS], the second one after a [SEP] too.
        places = np.arange(length - _FRAME)
        places += np.where(places < first_length, 1, 2)
        if not self.settings.whole_word_masking:
            return np.sort(rng.permutation(places)[:count])
        starts = ~self._continues[ids[places]]
        starts[[0, first_length]] = True  # a segment may begin inside a word
        words = np.split(places, np.flatnonzero(starts)[1:])
        return _whole_words([words[number] for number in rng.permutation(len(words))], count)

    def _masked(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the model sees in their place: 80 % [MASK], 10 % the word itself, 10 % a random word."""
        kind = rng.random(len(ids))
        random_ids = self._ordinary_ids[rng.integers(len(self._ordinary_ids), size=len(ids))]
        return np.where(kind < 0.8, self._mask_id, np.where(kind < 0.9, ids, random_ids))


def _take(sizes: np.ndarray, start: int, target: int, at_least: int) -> int:
    """The end of the run of sentences from ``start`` that reaches ``target`` tokens: ``at_least`` so many, where there
    are.
    """
    end, length = start, 0
    while end < len(sizes) and (end - start < at_least or length < target):
        length += int(sizes[end])
        end += 1
    return end


def _whole_words(words: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The places of the first words that together have at most ``count``, ascending; where none fits, the beginning of
    the first.
    """
    chosen: List[int] = []
    for word in words:
        if len(chosen) + len(word) <= count:
            chosen += word.tolist()
            if len(chosen) == count:
                break
    return np.sort(np.array(chosen or words[0][:count]))


def _truncate(
    first: List[int], second: List[int], longest: int, rng: np.random.Generator
) -> Tuple[List[int], List[int]]:
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
