"""SQuAD inputs, as ``prepare validate`` and ``prepare inspect`` know them."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Optional

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.record_kinds import Batch, Record, RecordChecks, RecordFolder, RecordKind
from pipeloom.plugins.libraries.ofrecord.question_records import META, SPLITS, fields_of, read_meta
from pipeloom.plugins.libraries.ofrecord.record_rules import BERT_VOCAB_SIZE, SpecialIds, answer_rules, text_rules
from pipeloom.plugins.libraries.ofrecord.record_text import (
    TEXT,
    WHY_NO_FAULT,
    TextStatistics,
    is_whole,
    join_words,
    size_of,
    words_of,
)
from pipeloom.plugins.libraries.preparation.folders import is_intact

_RULES = {"train": answer_rules, "eval": text_rules}


def _matches(split: str, record: Record) -> bool:
    return any(name in record for name in SPLITS[split])


def _checks(split: str, record: Record, folder: RecordFolder) -> RecordChecks:
    special = SpecialIds.of_folder(folder)
    length = folder.sizes.get("seq_length") or size_of(record, TEXT)
    vocab_size = folder.sizes.get("vocab_size") or (special.size if special is not None else BERT_VOCAB_SIZE)
    return RecordChecks(
        fields_of(split, length, vocab_size),
        # Rules are faults where the special tokens are known, as they are for training.
        rules=_RULES[split](special) if special is not None else (),
        notes=_RULES[split](None) if special is None else (),
        why_no_fault=WHY_NO_FAULT,
        vocab_size=vocab_size,
        statistics=_Statistics(special),
        fault_of_folder=partial(_fault_of_folder, folder),
    )


def _fault_of_folder(folder: RecordFolder, records: int) -> str:
    """Return what training would say of a folder whose records are good."""
    path = folder.path
    if not (path / META).exists():
        return ""
    try:
        number = read_meta(path)["num_samples"]
    except UsageError as error:
        return str(error)
    if number != records:
        return f"{path} has {records} records, its {META} says {number}"
    return "" if is_intact(path) else f"{path} is damaged, its files are not as its {META} says"


class _Statistics(TextStatistics):
    def add(self, batch: Batch) -> None:
        super().add(batch)
        if "start_positions" in batch:
            self._counts["answered"] += int((batch["start_positions"] > 0).sum())

    def phrases(self, records: int) -> Dict[str, str]:
        found = super().phrases(records)
        if self._counts["answered"]:
            found["answers"] = f"in {100 * self._counts['answered'] / records:.1f} % of the windows"
        return found


def _lines(record: Record, tokenizer: Any) -> Optional[List[str]]:
    if tokenizer is None or not is_whole(record, TEXT):
        return None
    words = words_of(record, tokenizer)
    begin = int((record["segment_ids"][: len(words)] == 0).sum())
    lines = [f"  question   {join_words(words[1 : begin - 1])}", f"  context    {join_words(words[begin:-1])}"]
    if is_whole(record, ("start_positions", "end_positions")):
        start, end = int(record["start_positions"][0]), int(record["end_positions"][0])
        answer = join_words(words[start : end + 1]) if 0 < start <= end < len(words) else "not in this window"
        lines.append(f"  answer     {answer} (tokens {start} to {end})")
    if is_whole(record, ("unique_ids",)):
        lines.append(f"  unique id  {int(record['unique_ids'][0])}")
    return lines


RECORD_KINDS = tuple(
    RecordKind(f"SQuAD inputs for {what}", partial(_matches, split), partial(_checks, split), _lines)
    for split, what in (("train", "training"), ("eval", "evaluation"))
)
