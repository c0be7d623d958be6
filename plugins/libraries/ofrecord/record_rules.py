"""What the records of known kinds mean: rules that pre-training examples and SQuAD inputs keep beyond the bounds of
their fields.

One who reads the records for training and one who validates them ask the same rules. They suppose BERT's conventions,
so they hold where the vocabulary of the records is known to have its special tokens.

Shapes: N = records at once, L = sequence, M = predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import Batch, RecordFolder, RecordRule
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

#: Tokens of bert-base-uncased, with whose vocabulary the public Wikipedia sets are made.
BERT_VOCAB_SIZE = 30522
_TEXT = ("input_ids", "input_mask", "segment_ids")
_PREDICTIONS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


@dataclass(frozen=True)
class SpecialIds:
    """The ids of BERT's special tokens in a vocabulary of ``size`` tokens."""

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> SpecialIds:
        """Those of a vocabulary. Raises ``UsageError`` where it has not all of them."""
        words = vocabulary.load()
        return cls(vocabulary.size(), words.pad_id, words.unk_id, words.cls_id, words.sep_id, words.mask_id)

    @classmethod
    def beside(cls, folder: Path) -> Optional[SpecialIds]:
        """Those of the vocabulary of the records in ``folder``; ``None`` where there is none, or it has not all of
        them."""
        found = Vocabulary.beside(folder)
        try:
            return None if found is None else cls.of(found)
        except UsageError:
            return None

    @classmethod
    def of_folder(cls, folder: RecordFolder) -> Optional[SpecialIds]:
        """Return those of the vocabulary that was given, else of the one beside the records, where training finds them.

        Raises ``UsageError`` where the given one has not all of them.
        """
        if folder.vocabulary_is_given and isinstance(folder.vocabulary, Vocabulary):
            return cls.of(folder.vocabulary)
        return cls.beside(folder.path)


def pretraining_fields(seq_length: int, max_predictions: int, vocab_size: int) -> List[Field]:
    """The fields of the public Wikipedia sets, in the order in which a model reads them."""

    def ids(name: str, size: int, high: int) -> Field:
        return Field(name, (size,), "int32", low=0, high=high)

    return [
        ids("input_ids", seq_length, vocab_size),
        ids("input_mask", seq_length, 2),
        ids("segment_ids", seq_length, 2),
        ids("masked_lm_positions", max_predictions, seq_length),
        ids("masked_lm_ids", max_predictions, vocab_size),
        Field("masked_lm_weights", (max_predictions,), "float32"),
        ids("next_sentence_labels", 1, 2),
    ]


def pretraining_options(seq_length: int, max_predictions: int) -> Dict[str, str]:
    """The options that decide the lengths of these fields, as the user types them."""
    return {
        **dict.fromkeys(_TEXT, f"--seq_length {seq_length}"),
        **dict.fromkeys(_PREDICTIONS, f"--max_predictions {max_predictions}"),
    }


def text_rules(special: Optional[SpecialIds]) -> List[RecordRule]:
    """Of all inputs: [CLS], a segment, [SEP], perhaps another segment and [SEP], padding. Without ``special`` only what
    needs no ids."""
    rules = [
        RecordRule(
            ("input_mask",),
            lambda batch: (np.diff(batch["input_mask"]) <= 0).all(1) & (_length(batch) > 0),
            "input_mask is not ones and then zeros",
        ),
        RecordRule(
            ("input_mask", "segment_ids"),
            lambda batch: (batch["segment_ids"] <= batch["input_mask"]).all(1),
            "segment_ids has a 1 in the padding",
        ),
        RecordRule(
            ("input_mask", "segment_ids"),
            lambda batch: (np.diff(np.where(batch["input_mask"] == 1, batch["segment_ids"], 1)) >= 0).all(1),
            "segment_ids goes back from 1 to 0",
        ),
    ]
    return rules if special is None else [*rules, *_token_rules(special)]


def _token_rules(special: SpecialIds) -> List[RecordRule]:
    def last(batch: Batch, ends_N: np.ndarray) -> np.ndarray:
        return batch["input_ids"][np.arange(len(ends_N)), np.maximum(ends_N - 1, 0)] == special.sep

    return [
        RecordRule(
            ("input_ids",),
            lambda batch: (batch["input_ids"] < special.size).all(1),
            f"input_ids has a value outside of the vocabulary (0 to {special.size - 1})",
        ),
        RecordRule(
            ("input_ids",), lambda batch: batch["input_ids"][:, 0] == special.cls, "input_ids does not begin with [CLS]"
        ),
        RecordRule(
            ("input_ids", "input_mask"), lambda batch: last(batch, _length(batch)), "input_ids does not end with [SEP]"
        ),
        RecordRule(
            _TEXT,
            lambda batch: last(batch, (batch["input_mask"] - batch["segment_ids"]).sum(1)),
            "the first segment does not end with [SEP]",
        ),
        RecordRule(
            ("input_ids", "input_mask"),
            lambda batch: ((batch["input_ids"] == special.pad) | (batch["input_mask"] == 1)).all(1),
            "input_ids has a token in the padding",
        ),
    ]


def pretraining_rules(special: Optional[SpecialIds]) -> List[RecordRule]:
    """Of pre-training examples, besides :func:`text_rules`: weights of 1 for the words that are asked for, which are in
    the text."""
    rules = [
        *text_rules(special),
        RecordRule(
            ("masked_lm_weights",),
            lambda batch: _ones_first(batch["masked_lm_weights"]),
            "masked_lm_weights is not ones and then zeros",
        ),
        RecordRule(
            ("masked_lm_weights", "masked_lm_positions", "input_mask"),
            lambda batch: (_inside(batch["masked_lm_positions"], batch["input_mask"]) | ~_masked(batch)).all(1),
            "masked_lm_positions has a place outside of the text",
        ),
        RecordRule(
            ("masked_lm_weights", "masked_lm_positions"),
            lambda batch: ((np.diff(batch["masked_lm_positions"]) > 0) | ~_masked(batch)[:, 1:]).all(1),
            "masked_lm_positions does not rise",
        ),
    ]
    if special is not None:
        never = [special.pad, special.cls, special.sep, special.mask]
        rules += [
            RecordRule(
                ("masked_lm_ids",),
                lambda batch: (batch["masked_lm_ids"] < special.size).all(1),
                f"masked_lm_ids has a value outside of the vocabulary (0 to {special.size - 1})",
            ),
            RecordRule(
                ("masked_lm_weights", "masked_lm_ids"),
                lambda batch: (~np.isin(batch["masked_lm_ids"], never) | ~_masked(batch)).all(1),
                "masked_lm_ids has a token that is no text",
            ),
        ]
    return rules


def answer_rules(special: Optional[SpecialIds]) -> List[RecordRule]:
    """Of SQuAD inputs for training, besides :func:`text_rules`: the answer is in the text."""
    return [
        *text_rules(special),
        RecordRule(
            ("start_positions", "end_positions"),
            lambda batch: (batch["start_positions"] <= batch["end_positions"]).all(1),
            "end_positions is before start_positions",
        ),
        RecordRule(
            ("end_positions", "input_mask"),
            lambda batch: batch["end_positions"][:, 0] < _length(batch),
            "end_positions is outside of the text",
        ),
    ]


def _length(batch: Batch) -> np.ndarray:
    return batch["input_mask"].sum(1)


def _masked(batch: Batch) -> np.ndarray:
    return batch["masked_lm_weights"] > 0


def _ones_first(weights_NM: np.ndarray) -> np.ndarray:
    count_N1 = weights_NM.sum(1, keepdims=True)
    return (weights_NM == (np.arange(weights_NM.shape[1]) < count_N1)).all(1) & (count_N1[:, 0] > 0)


def _inside(positions_NM: np.ndarray, mask_NL: np.ndarray) -> np.ndarray:
    """Whether a place is neither that of [CLS] nor of the last [SEP], nor behind it."""
    return (positions_NM > 0) & (positions_NM < mask_NL.sum(1, keepdims=True) - 1)


def select(rules: Sequence[RecordRule], names: Sequence[str]) -> List[RecordRule]:
    """The rules that can be asked where just the fields ``names`` are read."""
    return [rule for rule in rules if set(rule.fields) <= set(names)]
