"""Pre-training examples, as ``prepare validate`` and ``prepare inspect`` know them.

Shapes: N = records at once, M = predictions.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from pipeloom.core.contract.record_kinds import Batch, Record, RecordChecks, RecordFolder, RecordKind
from pipeloom.plugins.libraries.ofrecord.record_rules import (
    BERT_VOCAB_SIZE,
    SpecialIds,
    pretraining_fields,
    pretraining_options,
    pretraining_rules,
)
from pipeloom.plugins.libraries.ofrecord.record_text import (
    TEXT,
    WHY_NO_FAULT,
    TextStatistics,
    is_whole,
    join_words,
    size_of,
    word,
    words_of,
)

_PREDICTIONS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
_LABELS = "next_sentence_labels"


def _matches(record: Record) -> bool:
    return any(name in record for name in (*_PREDICTIONS, _LABELS))


def _checks(record: Record, folder: RecordFolder) -> RecordChecks:
    special = SpecialIds.of_folder(folder)
    length = folder.sizes.get("seq_length") or size_of(record, TEXT)
    predictions = folder.sizes.get("max_predictions") or size_of(record, _PREDICTIONS)
    vocab_size = folder.sizes.get("vocab_size") or (special.size if special is not None else BERT_VOCAB_SIZE)
    # Named in an error are the options that were given.
    options = {
        name: option
        for name, option in pretraining_options(length, predictions).items()
        if option.split()[0].lstrip("-") in folder.sizes
    }
    return RecordChecks(
        pretraining_fields(length, predictions, vocab_size),
        # Rules are faults where the special tokens are known, as they are for training.
        rules=pretraining_rules(special) if special is not None else (),
        notes=pretraining_rules(None) if special is None else (),
        why_no_fault=WHY_NO_FAULT,
        options=options,
        vocab_size=vocab_size,
        statistics=_Statistics(special),
    )


class _Statistics(TextStatistics):
    def add(self, batch: Batch) -> None:
        super().add(batch)
        counts, special = self._counts, self._special
        rows, columns = np.nonzero(batch["masked_lm_weights"])
        seen = batch["input_ids"][rows, batch["masked_lm_positions"][rows, columns]]
        true = batch["masked_lm_ids"][rows, columns]
        counts["masked"] += len(rows)
        counts["kept"] += int((seen == true).sum())
        counts["[MASK]"] += int((seen == special.mask).sum()) if special is not None else 0
        counts["random next"] += int(batch[_LABELS].sum())

    def phrases(self, records: int) -> Dict[str, str]:
        found, counts = super().phrases(records), self._counts
        if not counts["masked"]:
            return found

        def share(count: int) -> str:
            return f"{100 * count / counts['masked']:.2f} %"

        found["masked"] = f"{counts['masked'] / records:.2f} a record"
        if self._special is not None:
            other = counts["masked"] - counts["kept"] - counts["[MASK]"]
            found["masked"] += (
                f": {share(counts['[MASK]'])} [MASK], {share(counts['kept'])} the word itself, "
                f"{share(other)} another word"
            )
        found["next sentence"] = f"{100 * counts['random next'] / records:.2f} % random"
        return found


def _lines(record: Record, tokenizer: Any) -> Optional[List[str]]:
    if tokenizer is None or not is_whole(record, TEXT) or not is_whole(record, _PREDICTIONS):
        return None
    words = words_of(record, tokenizer)
    weights = record["masked_lm_weights"] > 0
    positions, ids = record["masked_lm_positions"][weights].tolist(), record["masked_lm_ids"][weights].tolist()
    outside = []
    for position, number in zip(positions, ids):
        true = word(number, tokenizer)
        if 0 <= position < len(words):
            words[position] = _marked(words[position], true)
        else:
            outside.append(f"{true} at {position}")
    first = int((record["segment_ids"][: len(words)] == 0).sum())
    lines = [f"  first   {join_words(words[1 : first - 1])}", f"  second  {join_words(words[first:-1])}"]
    if outside:
        lines.append(f"  asked for outside of the text: {', '.join(outside)}")
    label = ""
    if is_whole(record, (_LABELS,)):
        what = "another document's text" if record[_LABELS][0] else "the next sentence"
        label = f"the second is {what}; "
    return [*lines, f"  {label}{len(words)} tokens, {int(weights.sum())} to be predicted"]


def _marked(seen: str, true: str) -> str:
    """Return the token ``true`` as the legend has it, where ``seen`` stands in the text."""
    whole = true.replace("##", "")
    text = f"[={whole}]" if seen == true else f"[{seen.strip('[]').replace('##', '')}: {whole}]"
    return ("##" if true.startswith("##") else "") + text


RECORD_KINDS = (
    RecordKind(
        "pre-training examples",
        _matches,
        _checks,
        _lines,
        "In the text [MASK: word] is hidden, [other: word] has another word in its place, "
        "[=word] is asked for and shown as it is.",
    ),
)
