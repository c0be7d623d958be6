"""How a record is judged: the one place that says what of it can be used, for those who train on it and those who
validate it."""

from __future__ import annotations

import math
from typing import Dict, FrozenSet, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import Batch, RecordRule
from pipeloom.plugins.libraries.ofrecord.record_rules import select
from pipeloom.plugins.libraries.ofrecord.records import BadRecord, decode_like


class RecordFormat:
    """The fields that every record has, with their lengths, types and bounds, and the ``rules`` that it keeps.

    Args:
        fields: what every record must have. It may have more.
        rules: what the values must be together. With any, all records have the fields of the first one that was
            decoded.
        options: for a field's name the option that decides its length, as the user would type it.
        vocab_size: size of the vocabulary; a value that is too large for it is said to be so.
        size_is_asked: whether ``--vocab_size`` said it; else the vocabulary itself did.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        rules: Sequence[RecordRule] = (),
        options: Optional[Mapping[str, str]] = None,
        vocab_size: Optional[int] = None,
        size_is_asked: bool = True,
    ) -> None:
        self.fields = {field.name: field for field in fields}
        self.rules = list(rules)
        self._options, self._vocab_size, self._size_is_asked = dict(options or {}), vocab_size, size_is_asked
        self._names: Optional[FrozenSet[str]] = None
        self._sizes = {field.name: math.prod(field.shape) for field in fields}

    def decode(self, message: bytes, names: Sequence[str]) -> Dict[str, np.ndarray]:
        """The fields ``names`` of a record, each ``field.shape``. Raises :class:`BadRecord` for one that has not what
        it should have."""
        record, there = decode_like(message, names, self._names)
        if self.rules and self._names is None:
            self._names = there
        return {name: self._shaped(self.fields[name], record[name]) for name in names}

    def _shaped(self, field: Field, array: np.ndarray) -> np.ndarray:
        if array.dtype != field.dtype:
            kind = "bytes" if array.dtype == object else array.dtype
            raise BadRecord(
                f"field '{field.name}' is a list of {kind}, it should be {field.dtype}; "
                "write the file again with that type"
            )
        needed = self._sizes[field.name]
        if array.size != needed:
            option = self._options.get(field.name)
            need = f"{option} needs {needed}" if option else f"{needed} are needed"
            raise BadRecord(f"field '{field.name}' has {array.size} values, {need}")
        return array.reshape(field.shape)

    def faults(self, batch: Batch) -> Iterator[Tuple[int, str]]:
        """(row, what is wrong) of the records of ``batch``, which has some of the fields: the first fault of each."""
        count = len(next(iter(batch.values()), ()))
        good = np.ones(count, bool)
        for name, values in batch.items():
            for row, what in self._out_of_bounds(self.fields[name], values.reshape(count, -1)):
                if good[row]:
                    yield row, what
                good[row] = False
        for rule in select(self.rules, list(batch)):
            # Of a record that is out of bounds nothing more can be asked.
            rows = np.flatnonzero(good)
            for row in rows[~rule.holds({name: batch[name][rows] for name in rule.fields})].tolist():
                yield row, rule.what
                good[row] = False

    def _out_of_bounds(self, field: Field, flat: np.ndarray) -> Iterator[Tuple[int, str]]:
        if flat.size == 0:
            return
        if flat.dtype.kind == "f" and not np.isfinite(flat).all():
            for row, position in _first_of_each_row(~np.isfinite(flat)):
                yield (
                    row,
                    (
                        f"field '{field.name}' has the value {flat[row, position]} at position {position}, "
                        "it must be a finite number"
                    ),
                )
            return
        low = flat.min() if field.low is None else field.low
        high = flat.max() if field.high is None else field.high - 1
        # Both ends first, over the whole batch: the search for the culprits is for the rare case.
        if flat.min() >= low and flat.max() <= high:
            return
        bounds = f"{'any' if field.low is None else low} to {'any' if field.high is None else high}"
        allowed = f"allowed are {bounds}"
        if field.high == self._vocab_size:
            allowed = f"outside of the vocabulary ({bounds})"
            if self._size_is_asked:
                allowed = f"--vocab_size {self._vocab_size} allows {bounds}"
        for row, position in _first_of_each_row((flat < low) | (flat > high)):
            yield row, f"field '{field.name}' has the value {flat[row, position]} at position {position}, {allowed}"


def _first_of_each_row(bad: np.ndarray) -> Iterator[Tuple[int, int]]:
    for row in np.flatnonzero(bad.any(1)).tolist():
        yield row, int(bad[row].argmax())
