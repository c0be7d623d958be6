"""Kinds of records: what ``prepare validate`` checks and counts in them, and how ``prepare inspect`` shows one.

Shapes: N = records at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.tokenizer import Tokenizer, TokenizerSource

#: A record: its arrays by name, each of one dimension.
Record = Mapping[str, np.ndarray]
#: Several of them: arrays ``(N, *shape)`` by the names of the fields.
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RecordRule:
    """Something that a record keeps beyond the bounds of its fields.

    ``holds(batch)`` gets the fields ``fields`` and returns bool ``(N,)``: which records keep it. ``what`` is said of
    one that does not.
    """

    fields: Tuple[str, ...]
    holds: Callable[[Batch], np.ndarray]
    what: str


class RecordStatistics(Protocol):
    """Counts something in records that have no fault."""

    def add(self, batch: Batch) -> None:
        """Count in the records of ``batch``."""

    def phrases(self, records: int) -> Dict[str, str]:
        """Return what was counted in ``records`` records, as phrases by their titles."""


@dataclass(frozen=True)
class RecordFolder:
    """A folder that is validated, and what the user says that training will ask of it.

    ``sizes``: those of ``seq_length``, ``max_predictions`` and ``vocab_size`` that were given. ``vocabulary``: that of
    ``--vocab`` where ``vocabulary_is_given``, else the one beside the records, or ``None``.
    """

    path: Path
    sizes: Mapping[str, int]
    vocabulary: Optional[TokenizerSource] = None
    vocabulary_is_given: bool = False


def _no_fault(records: int) -> str:
    return ""


@dataclass(frozen=True)
class RecordChecks:
    """What the records of a folder are held to: as training holds them, so that one says what the other does.

    Args:
        fields: what every record has, with types, shapes and bounds.
        rules: what its values keep together. With any, all records have the names of the first one.
        notes: rules whose breaking is no fault, but counted and reported, with ``why_no_fault``, a clause.
        options: for a field's name the option that decides its length, as the user typed it.
        vocab_size: the size of the vocabulary: an error about a bound that equals it says so.
        statistics: what is counted in good records.
        fault_of_folder: called with the number of records when all are good; returns what is wrong with the folder as a
            whole, or "".
    """

    fields: Sequence[Field]
    rules: Sequence[RecordRule] = ()
    notes: Sequence[RecordRule] = ()
    why_no_fault: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    vocab_size: Optional[int] = None
    statistics: Optional[RecordStatistics] = None
    fault_of_folder: Callable[[int], str] = _no_fault


@dataclass(frozen=True)
class RecordKind:
    """A kind of records that ``prepare validate`` and ``prepare inspect`` know.

    ``name``, a plural, stands in messages: "1,024 pre-training examples". ``matches(record)``: whether a folder whose
    first record this is has records of the kind; ``checks(record, folder)`` returns its :class:`RecordChecks`.
    ``lines(record, tokenizer)`` returns what to print of any record that is shown, ``None`` for one that it cannot
    show, and for one that needs a tokenizer where there is none; without it arrays are shown. ``legend``: how these
    lines are read, a sentence.
    """

    name: str
    matches: Callable[[Record], bool]
    checks: Callable[[Record, RecordFolder], RecordChecks]
    lines: Optional[Callable[[Record, Optional[Tokenizer]], Optional[List[str]]]] = None
    legend: str = ""
