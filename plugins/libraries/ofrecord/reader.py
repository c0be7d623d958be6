"""A dataset of OFRecord parts: random access by record number, only the fields that are asked for."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Type, Union

import numpy as np

from pipeloom.core.base.errors import PipeloomError, RunError, UsageError
from pipeloom.core.base.files import sample_of_file
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.record_kinds import RecordRule
from pipeloom.plugins.libraries.ofrecord.index import INDEX, Index, find_parts, read_index
from pipeloom.plugins.libraries.ofrecord.record_format import RecordFormat
from pipeloom.plugins.libraries.ofrecord.records import BadRecord, index_part

# Each memory map holds a file descriptor, and 1024 of those is a common limit for a process.
_MAX_OPEN_PARTS = 128

# What a fingerprint reads: so much at each end of a part, and of so many parts.
_SAMPLE_BYTES = 64 * 1024
_SAMPLED_PARTS = 256


class OFRecordDataset(Dataset):
    """The records of one OFRecord file, or of a folder of files ``part-*``, in the order of their numbers.

    Args:
        path: the file or the folder.
        fields: the fields that every record must have, with their shapes, dtypes and bounds. Records
            may have more; those are left alone.
        task: the task whose examples these are.
        vocab_size: size of the vocabulary that the token ids belong to.
        options: for a field's name the option that decides its shape, as the user would type it
            (``{"input_ids": "--seq_length 128"}``); an error about its length then names that option.
        rules: what the values of a record must be together; each is asked where all of its fields are read.

    All parts are scanned for their records, unless the folder has an index (``index.py``): then each record is compared
    with its checksum there when it is read. The first record is checked here, so a wrong path or option fails at once,
    with a ``UsageError``. Files are mapped at the first read. Reads have no position in the file, so a forked child and
    threads may read beside each other; ``close`` may come at any time.
    """

    def __init__(
        self,
        path: Union[str, Path],
        fields: Sequence[Field],
        task: str,
        vocab_size: int,
        options: Optional[Mapping[str, str]] = None,
        rules: Sequence[RecordRule] = (),
    ) -> None:
        self.path = Path(path).expanduser()
        self._format = RecordFormat(fields, rules, options, vocab_size)
        self.fields = self._format.fields
        self.task = task
        self.vocab_size = vocab_size
        self._parts = find_parts(self.path)
        index = read_index(self._parts[0].parent)
        if index is not None and self.path.is_dir():
            index.check(self.path, self._parts)
        numbers = [index.number_of(part.name) if index is not None else None for part in self._parts]
        self._indexes, self._crcs = zip(*(_rows(part, index, number) for part, number in zip(self._parts, numbers)))
        # Part k holds the records self._starts[k] <= i < self._starts[k + 1].
        self._starts = np.cumsum([0] + [len(index) for index in self._indexes])
        self._maps: OrderedDict[int, mmap.mmap] = OrderedDict()  # by part, the last used at the end
        self._load([0], list(self.fields), UsageError)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        """The fields ``names`` of the records ``indices``, each ``(len(indices), *field.shape)``.

        Raises ``RunError`` naming file, record and field where the data is not as declared, ``KeyError``
        for a name that is not in ``fields``, ``IndexError`` for an index out of range.
        """
        return self._load(indices, names, RunError)

    def describe(self) -> str:
        parts = "1 part" if len(self._parts) == 1 else f"{len(self._parts)} parts"
        return f"{len(self)} samples in {parts} of {self.path}"

    def fingerprint(self) -> str:
        """A hash over the names and sizes of all parts, the numbers of their records, and their contents, sampled.

        Of a part the first and the last 64 KiB are read, so all of it up to 128 KiB; of a folder of more than 256 parts
        those of 256, spread evenly. A change in the middle of a large part that keeps the length of every record there
        goes unnoticed. The folder's own place and times do not count. Raises ``RunError`` when a part cannot be read.
        """
        seen = hashlib.sha256(super().fingerprint().encode())
        chosen = set(np.linspace(0, len(self._parts) - 1, min(len(self._parts), _SAMPLED_PARTS)).astype(int).tolist())
        for number, (part, index) in enumerate(zip(self._parts, self._indexes)):
            content = ""
            if number in chosen:
                try:
                    content = sample_of_file(part, _SAMPLE_BYTES)
                except OSError as error:
                    raise RunError(f"cannot read {part}: {error.strerror or error}") from error
            seen.update(repr((part.name, int(index[-1].sum()), len(index), content)).encode())
            seen.update(hashlib.sha256(index[:, 1].tobytes()).digest())  # the length of every record
        return seen.hexdigest()

    def close(self) -> None:
        """Lets go of the files. A later read opens them again."""
        self._maps.clear()

    def __getstate__(self) -> Dict[str, Any]:
        """For a spawned worker: a memory map cannot be pickled; it opens its own."""
        return {**self.__dict__, "_maps": OrderedDict()}

    def _load(self, indices: Sequence[int], names: Sequence[str], error: Type[PipeloomError]) -> Dict[str, np.ndarray]:
        fields = [self.fields[name] for name in names]
        batch = {field.name: np.empty((len(indices), *field.shape), field.dtype) for field in fields}
        for row, index in enumerate(indices):
            try:
                for name, values in self._format.decode(self._message(int(index)), names).items():
                    batch[name][row] = values
            except BadRecord as bad:
                raise error(f"{self._where(int(index))}: {bad}") from None
        for row, what in self._format.faults(batch):
            raise error(f"{self._where(int(indices[row]))}: {what}")
        return batch

    def _locate(self, index: int) -> Sequence[int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return part, index - int(self._starts[part])

    def _where(self, index: int) -> str:
        part, record = self._locate(index)
        return f"{self._parts[part]} record {record}"

    def _message(self, index: int) -> bytes:
        part, record = self._locate(index)
        offset, length = self._indexes[part][record]
        message = self._map(part)[offset : offset + length]
        crcs = self._crcs[part]
        if crcs is not None and zlib.crc32(message) != crcs[record]:
            raise BadRecord(f"is damaged (its checksum is not that of {INDEX}); copy the file again")
        return message

    def _map(self, part: int) -> mmap.mmap:
        data = self._maps.pop(part, None)
        if data is None:
            data = _map_file(self._parts[part], int(self._indexes[part][-1].sum()))
            while len(self._maps) >= _MAX_OPEN_PARTS:
                # Dropped, not closed: another thread may be reading from it at this moment.
                self._maps.popitem(last=False)
        self._maps[part] = data
        return data


def _rows(part: Path, index: Optional[Index], number: Optional[int]) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Where the records of a part are, and their checksums if the index has them."""
    return (index_part(part), None) if index is None or number is None else index.part(number)


def _map_file(path: Path, size: int) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                raise RunError(f"{path} was changed while it was in use; leave the data alone during a run")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
