"""The kinds of records that are known, each with what training asks of it; and what can be counted in them.

Shapes: N = records at once, L = sequence, M = predictions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from pipeloom.core.contract.dataset import Field
from pipeloom.plugins.libraries.ofrecord.question_records import SPLITS, fields_of
from pipeloom.plugins.libraries.ofrecord.record_format import RecordFormat
from pipeloom.plugins.libraries.ofrecord.record_rules import (
    BERT_VOCAB_SIZE,
    Batch,
    Rule,
    SpecialIds,
    answer_rules,
    pretraining_fields,
    pretraining_options,
    pretraining_rules,
    text_rules,
)

_PRETRAINING = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels")


@dataclass(frozen=True)
class Asked:
    """What training will ask for, where the user says it; ``None``: as the first record has it, and the vocabulary
    beside it."""

    seq_length: Optional[int] = None
    max_predictions: Optional[int] = None
    vocab_size: Optional[int] = None


class Kind:
    """Records of one kind: its name ``title``, the ``format`` that they must have, and ``notes``: rules whose breaking
    is no fault.

    Rules are faults where ``special`` is known, as they are for training.
    """

    def __init__(
        self,
        title: str,
        fields: Sequence[Field],
        rules: Callable[[Optional[SpecialIds]], List[Rule]],
        special: Optional[SpecialIds],
        options: Dict[str, str],
        vocab_size: int,
        asked: Asked,
    ) -> None:
        self.title = title
        self.format = RecordFormat(
            fields, rules(special) if special is not None else (), options, vocab_size, asked.vocab_size is not None
        )
        self.notes = rules(None) if special is None else []


def kind_of(record: Dict[str, np.ndarray], special: Optional[SpecialIds], asked: Asked) -> Optional[Kind]:
    """The kind of ``record``, the first one of its folder; ``None`` for one that is not known here."""

    def size(names: Sequence[str]) -> int:
        return max(1, next((record[name].size for name in names if name in record), 1))

    length = asked.seq_length or size(("input_ids", "input_mask", "segment_ids"))
    vocab_size = asked.vocab_size or (special.size if special is not None else BERT_VOCAB_SIZE)
    if any(name in record for name in _PRETRAINING):
        predictions = asked.max_predictions or size(_PRETRAINING[:3])
        # Named in an error are the options that were given.
        options = {
            name: option
            for name, option in pretraining_options(length, predictions).items()
            if getattr(asked, option.split()[0].lstrip("-"))
        }
        return Kind(
            "pre-training examples",
            pretraining_fields(length, predictions, vocab_size),
            pretraining_rules,
            special,
            options,
            vocab_size,
            asked,
        )
    for split, rules in (("train", answer_rules), ("eval", text_rules)):
        if any(name in record for name in SPLITS[split]):
            title = f"SQuAD inputs for {'training' if split == 'train' else 'evaluation'}"
            return Kind(title, fields_of(split, length, vocab_size), rules, special, {}, vocab_size, asked)
    return None


class Statistics:
    """Counts in records of known kinds."""

    def __init__(self, special: Optional[SpecialIds]) -> None:
        self._special = special
        self.counts: Counter = Counter()

    def add(self, batch: Batch) -> None:
        """Count in records without a fault."""
        self.counts["tokens"] += int(batch["input_mask"].sum())
        self.counts["places"] += batch["input_mask"].size
        if self._special is not None:
            self.counts["unknown"] += int((batch["input_ids"] == self._special.unk).sum())
        if "masked_lm_weights" in batch:
            rows, columns = np.nonzero(batch["masked_lm_weights"])
            seen = batch["input_ids"][rows, batch["masked_lm_positions"][rows, columns]]
            true = batch["masked_lm_ids"][rows, columns]
            self.counts["masked"] += len(rows)
            self.counts["kept"] += int((seen == true).sum())
            self.counts["[MASK]"] += int((seen == self._special.mask).sum()) if self._special is not None else 0
            self.counts["random next"] += int(batch["next_sentence_labels"].sum())
        if "start_positions" in batch:
            self.counts["answered"] += int((batch["start_positions"] > 0).sum())

    def statistics(self, records: int) -> Dict[str, str]:
        """What was counted, as phrases."""
        counts, found = self.counts, {}
        if counts["places"]:
            found["tokens"] = (
                f"{counts['tokens'] / records:.1f} a record, {100 - 100 * counts['tokens'] / counts['places']:.1f} % "
                f"padding"
            )
            if self._special is not None:
                unknown = 100 * counts["unknown"] / max(1, counts["tokens"])
                found["unknown words"] = f"{unknown:.3f} % of the tokens are [UNK]"
        if counts["masked"]:
            share: Callable[[int], str] = lambda count: f"{100 * count / counts['masked']:.2f} %"
            other = counts["masked"] - counts["kept"] - counts["[MASK]"]
            how = (
                f": {share(counts['[MASK]'])} [MASK], {share(counts['kept'])} the word itself, {share(other)} another "
                f"word"
                if self._special is not None
                else ""
            )
            found["masked"] = f"{counts['masked'] / records:.2f} a record{how}"
            found["next sentence"] = f"{100 * counts['random next'] / records:.2f} % random"
        if "start_positions" in counts or counts["answered"]:
            found["answers"] = f"in {100 * counts['answered'] / records:.1f} % of the windows"
        return found
