"""What records of known kinds must be like: pre-training examples and SQuAD inputs; and what can be counted in them.

Shapes: N = records at once, L = sequence, M = predictions.
"""
from __future__ import annotations

from collections import Counter
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from pipeloom.core.data.tokenization import WordPieceTokenizer

Batch = Mapping[str, np.ndarray]
#: Whether each record (bool, (N,)) is as ``what`` says.
Finding = Tuple[np.ndarray, str]

_TEXT = ("input_ids", "input_mask", "segment_ids")
_PRETRAINING = (*_TEXT, "masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels")


class Checks:
    """The checks for records with the fields ``names``; ``kind`` says what they are. ``tokenizer``: their vocabulary, if it is known."""

    def __init__(self, names: List[str], tokenizer: Optional[WordPieceTokenizer]) -> None:
        self._tokenizer = tokenizer
        self.counts: Counter = Counter()
        if set(_PRETRAINING) <= set(names):
            self.kind, self._checks = "pre-training examples", self._pretraining
        elif set(_TEXT) <= set(names) and {"start_positions", "end_positions"} <= set(names):
            self.kind, self._checks = "SQuAD inputs for training", self._squad
        elif set(_TEXT) <= set(names) and "unique_ids" in names:
            self.kind, self._checks = "SQuAD inputs for evaluation", self._text
        else:
            self.kind, self._checks = "records of a kind that is not known here", lambda batch: iter(())

    def faults(self, batch: Batch) -> Iterator[Tuple[int, str]]:
        """(row, what is wrong) of the records of ``batch`` that are not as they must be: the first fault of each."""
        count = len(next(iter(batch.values())))
        bad = np.zeros(count, bool)
        for good, what in self._checks(batch):
            for row in np.flatnonzero(~good & ~bad).tolist():
                yield row, what
            bad |= ~good
        if not bad.any():
            self._count(batch)

    def _text(self, batch: Batch) -> Iterator[Finding]:
        ids_NL, mask_NL, segments_NL = (batch[name] for name in _TEXT)
        length_N = mask_NL.sum(1)
        yield ((mask_NL == 0) | (mask_NL == 1)).all(1) & (np.diff(mask_NL) <= 0).all(1) & (length_N > 0), "input_mask is not ones and then zeros"
        yield ((segments_NL == 0) | (segments_NL == 1)).all(1), "segment_ids has other values than 0 and 1"
        yield ((segments_NL == 1) <= (mask_NL == 1)).all(1), "segment_ids has a 1 in the padding"
        yield (np.diff(np.where(mask_NL == 1, segments_NL, 1)) >= 0).all(1), "segment_ids goes back from 1 to 0"
        if self._tokenizer is None:
            yield (ids_NL >= 0).all(1), "input_ids has a value below 0"
            return
        words = self._tokenizer
        yield ((ids_NL >= 0) & (ids_NL < len(words))).all(1), f"input_ids has a value outside of the vocabulary (0 to {len(words) - 1})"
        rows = np.arange(len(ids_NL))
        yield ids_NL[:, 0] == words.cls_id, "input_ids does not begin with [CLS]"
        yield ids_NL[rows, np.maximum(length_N - 1, 0)] == words.sep_id, "input_ids does not end with [SEP]"
        ends_N = (segments_NL == 0).sum(1, where=mask_NL == 1) - 1
        yield ids_NL[rows, np.maximum(ends_N, 0)] == words.sep_id, "the first segment does not end with [SEP]"
        yield ((ids_NL == words.pad_id) | (mask_NL == 1)).all(1), "input_ids has a token in the padding"

    def _pretraining(self, batch: Batch) -> Iterator[Finding]:
        yield from self._text(batch)
        positions_NM, ids_NM, weights_NM = (batch[f"masked_lm_{name}"] for name in ("positions", "ids", "weights"))
        length_N, count_N = batch["input_mask"].sum(1), weights_NM.sum(1).astype(np.int64)
        masked_NM = np.arange(weights_NM.shape[1]) < count_N[:, None]
        yield (weights_NM == masked_NM).all(1) & (count_N > 0), "masked_lm_weights is not ones and then zeros"
        yield ((positions_NM > 0) & (positions_NM < length_N[:, None] - 1) | ~masked_NM).all(1), "masked_lm_positions has a place outside of the text"
        yield (np.diff(positions_NM) > 0).all(1, where=masked_NM[:, 1:]), "masked_lm_positions does not rise"
        yield ((positions_NM == 0) & (ids_NM == 0) | masked_NM).all(1), "masked_lm_positions or masked_lm_ids goes on where the weights are 0"
        labels_N = batch["next_sentence_labels"].reshape(-1)
        yield (labels_N == 0) | (labels_N == 1), "next_sentence_labels is neither 0 nor 1"
        if self._tokenizer is not None:
            words = self._tokenizer
            yield ((ids_NM >= 0) & (ids_NM < len(words))).all(1), f"masked_lm_ids has a value outside of the vocabulary (0 to {len(words) - 1})"
            never = np.isin(ids_NM, [words.pad_id, words.cls_id, words.sep_id, words.mask_id])
            yield (~never | ~masked_NM).all(1), "masked_lm_ids has a token that is no text"

    def _squad(self, batch: Batch) -> Iterator[Finding]:
        yield from self._text(batch)
        starts_N, ends_N, length_N = batch["start_positions"][:, 0], batch["end_positions"][:, 0], batch["input_mask"].sum(1)
        yield (starts_N >= 0) & (ends_N < length_N), "start_positions or end_positions is outside of the text"
        yield starts_N <= ends_N, "end_positions is before start_positions"

    def _count(self, batch: Batch) -> None:
        if "input_mask" in batch:
            self.counts["tokens"] += int(batch["input_mask"].sum())
            self.counts["places"] += batch["input_mask"].size
            if self._tokenizer is not None:
                self.counts["unknown"] += int((batch["input_ids"] == self._tokenizer.unk_id).sum())
        if "masked_lm_weights" in batch:
            rows, columns = np.nonzero(batch["masked_lm_weights"])
            seen = batch["input_ids"][rows, batch["masked_lm_positions"][rows, columns]]
            true = batch["masked_lm_ids"][rows, columns]
            mask_id = None if self._tokenizer is None else self._tokenizer.mask_id
            self.counts["masked"] += len(rows)
            self.counts["kept"] += int((seen == true).sum())
            self.counts["[MASK]"] += int((seen == mask_id).sum())
            self.counts["random next"] += int(batch["next_sentence_labels"].sum())
        if "start_positions" in batch:
            self.counts["answered"] += int((batch["start_positions"] > 0).sum())

    def statistics(self, records: int) -> Dict[str, str]:
        """What was counted, as phrases."""
        counts, found = self.counts, {}
        if counts["places"]:
            found["tokens"] = f"{counts['tokens'] / records:.1f} a record, {100 - 100 * counts['tokens'] / counts['places']:.1f} % padding"
            if self._tokenizer is not None:
                found["unknown words"] = f"{100 * counts['unknown'] / counts['tokens']:.3f} % of the tokens are [UNK]"
        if counts["masked"]:
            share: Callable[[int], str] = lambda count: f"{100 * count / counts['masked']:.2f} %"  # noqa: E731
            other = counts["masked"] - counts["kept"] - counts["[MASK]"]
            how = (f": {share(counts['[MASK]'])} [MASK], {share(counts['kept'])} the word itself, {share(other)} another word"
                   if self._tokenizer is not None else "")
            found["masked"] = f"{counts['masked'] / records:.2f} a record{how}"
            found["next sentence"] = f"{100 * counts['random next'] / records:.2f} % random"
        if "start_positions" in counts or counts["answered"]:
            found["answers"] = f"in {100 * counts['answered'] / records:.1f} % of the windows"
        return found
