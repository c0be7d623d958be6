"""The records of a folder that are held to what their kind says of them; a fault of a plugin's kind is its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Dict, Tuple

import numpy as np

from pipeloom.core.base.errors import ContractError, shown
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import Batch, Record, RecordChecks, RecordFolder, RecordRule
from pipeloom.core.host.command_lookup import Found
from pipeloom.plugins.libraries.ofrecord.record_format import RecordFormat
from pipeloom.plugins.prepare.record_kind_lookup import name_of_kind


class HeldRecords:
    """What the records of ``folder`` must be by their ``kind``: its ``name`` and ``format``. ``record`` is the first.

    The methods raise ``RunError`` that names the plugin where it does something wrong.
    """

    def __init__(self, kind: Found, record: Record, folder: RecordFolder) -> None:
        self._kind = kind
        self._checks: RecordChecks = self._call(kind.value.checks, record, folder, check=_checks)
        self.name = kind.value.name
        self.format = RecordFormat(
            self._checks.fields,
            [_checked(rule) for rule in self._checks.rules],
            self._checks.options,
            self._checks.vocab_size,
            "vocab_size" in folder.sizes,
        )
        self._notes = [_checked(rule) for rule in self._checks.notes]

    def _call(self, function: Any, *arguments: Any, check: Any = lambda answer: answer) -> Any:
        return self._kind.call(name_of_kind(self._kind), function, *arguments, check=check)

    def faults(self, batch: Batch) -> Dict[int, str]:
        """Return the first fault of each record of ``batch`` that has one, by its row."""
        return self._call(lambda: dict(self.format.faults(batch)))

    def count(self, batch: Batch) -> Dict[Tuple[str, str], int]:
        """Count in good records; returns for what is no fault, with why, how many of them have it."""
        if self._checks.statistics is not None:
            self._call(self._checks.statistics.add, batch)
        broken: Counter = Counter()
        why = f", {self._checks.why_no_fault}" if self._checks.why_no_fault else ""
        for rule in self._notes:
            broken[(rule.what, why)] += int((~self._call(rule.holds, batch)).sum())
        return dict(broken)

    def statistics(self, records: int) -> Dict[str, str]:
        """Return what was counted, as phrases by their titles."""
        if self._checks.statistics is None:
            return {}
        return self._call(self._checks.statistics.phrases, records, check=_phrases)

    def fault_of_folder(self, records: int) -> str:
        """Return what is wrong with the folder as a whole, "" for nothing."""
        return self._call(self._checks.fault_of_folder, records, check=_text)


def _checked(rule: RecordRule) -> RecordRule:
    """Return ``rule``, whose answer is refused where it is not one truth value for each record."""

    def holds(batch: Batch) -> np.ndarray:
        answer = np.asarray(rule.holds(batch))
        count = len(next(iter(batch.values())))
        if answer.shape != (count,) or answer.dtype != bool:
            raise ContractError(
                f"its rule {shown(rule.what)} answers {answer.dtype} {list(answer.shape)} for {count} records, "
                f"not bool [{count}]"
            )
        return answer

    return replace(rule, holds=holds)


def _checks(answer: Any) -> RecordChecks:
    if not isinstance(answer, RecordChecks):
        raise ContractError(f"its 'checks' returns {shown(answer)}, not RecordChecks")
    for what, kind, values in (
        ("fields", Field, answer.fields),
        ("rules", RecordRule, answer.rules),
        ("notes", RecordRule, answer.notes),
    ):
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, kind) for value in values):
            raise ContractError(f"'{what}' of its RecordChecks must be a list of {kind.__name__}s, not {shown(values)}")
    names = {field.name for field in answer.fields}
    if not names:
        raise ContractError("'fields' of its RecordChecks is empty")
    for rule in (*answer.rules, *answer.notes):
        if not set(rule.fields) <= names or not rule.fields:
            raise ContractError(f"its rule {shown(rule.what)} reads {shown(rule.fields)}, not some of the fields")
    return answer


def _phrases(answer: Any) -> Dict[str, str]:
    if not isinstance(answer, dict) or not all(isinstance(text, str) for pair in answer.items() for text in pair):
        raise ContractError(f"its statistics are {shown(answer)}, not phrases by their titles")
    return answer


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise ContractError(f"its 'fault_of_folder' returns {shown(answer)}, not text")
    return answer
