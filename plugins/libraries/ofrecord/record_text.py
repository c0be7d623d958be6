"""Token ids of records as words, and what can be counted in records that have some."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from pipeloom.core.contract.record_kinds import Batch, Record
from pipeloom.plugins.libraries.ofrecord.record_rules import SpecialIds

TEXT = ("input_ids", "input_mask", "segment_ids")
#: Of rules that suppose the vocabulary to be known.
WHY_NO_FAULT = "which training takes where no vocab.txt lies beside them"


def size_of(record: Record, names: Sequence[str]) -> int:
    """Return the size of the first of the fields ``names`` that ``record`` has, at least 1."""
    return max(1, next((record[name].size for name in names if name in record), 1))


def is_whole(record: Record, names: Sequence[str]) -> bool:
    """Return whether the fields are there, as numbers, as many of each as of the others."""
    arrays = [record[name] for name in names if name in record and record[name].dtype != object]
    return len(arrays) == len(names) and len({array.size for array in arrays}) == 1 and arrays[0].size > 0


def word(number: int, tokenizer: Any) -> str:
    """Return the token ``number``, also of a number that is none."""
    return tokenizer.tokens[number] if 0 <= number < len(tokenizer) else f"<{number}>"


def words_of(record: Record, tokenizer: Any) -> List[str]:
    """Return the tokens of a record with whole ``TEXT``, without its padding."""
    length = int(np.clip(record["input_mask"].sum(), 0, record["input_ids"].size))
    return [word(number, tokenizer) for number in record["input_ids"][:length].tolist()]


def join_words(words: Sequence[str]) -> str:
    """Return WordPieces as words."""
    return " ".join(words).replace(" ##", "")


class TextStatistics:
    """Counts tokens. ``special`` are the ids of the special tokens, ``None`` where they are not known."""

    def __init__(self, special: Optional[SpecialIds]) -> None:
        self._special = special
        self._counts: Counter = Counter()

    def add(self, batch: Batch) -> None:
        """Count in records without a fault."""
        self._counts["tokens"] += int(batch["input_mask"].sum())
        self._counts["places"] += batch["input_mask"].size
        if self._special is not None:
            self._counts["unknown"] += int((batch["input_ids"] == self._special.unk).sum())

    def phrases(self, records: int) -> Dict[str, str]:
        """Return what was counted, as phrases."""
        counts = self._counts
        if not counts["places"]:
            return {}
        padding = 100 - 100 * counts["tokens"] / counts["places"]
        found = {"tokens": f"{counts['tokens'] / records:.1f} a record, {padding:.1f} % padding"}
        if self._special is not None:
            unknown = 100 * counts["unknown"] / max(1, counts["tokens"])
            found["unknown words"] = f"{unknown:.3f} % of the tokens are [UNK]"
        return found
