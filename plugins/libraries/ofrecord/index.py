"""The index of a folder of OFRecord parts: where each record is and its checksum, so that nothing needs to be scanned
and no damage goes unseen.

``index.safetensors`` has the tensors ``lengths`` and ``crcs`` (int32, one for each record of all parts, in their
order): the bytes of the message and its CRC-32 as zlib has it, read as a signed number. Its header says of each part
the name, size, SHA-256 and records.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from pipeloom.core.base.errors import UsageError, similar_path
from pipeloom.core.base.files import replace_file
from pipeloom.core.checkpoint import tensors
from pipeloom.plugins.libraries.ofrecord.records import PREFIX_BYTES, framed, messages

INDEX = "index.safetensors"
_FORMAT = 1
_REPORT_EVERY = 4096
_DTYPE = np.dtype(np.int32)
_TENSORS = ("lengths", "crcs")


def find_parts(path: Path) -> List[Path]:
    """The part files of ``path``, in the order of their numbers (part-2 before part-10). Raises ``UsageError`` where
    there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"no file or folder {path}{similar_path(path)}")
    parts = [part for part in path.glob("part-*") if part.is_file()]
    if not parts:
        raise UsageError(f"no files part-* in {path}; give a folder of OFRecord parts, or one part file")
    return sorted(parts, key=lambda part: (_by_number(part.name), part.name))


def _by_number(name: str) -> List[Union[str, int]]:
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class PartEntry:
    """What an index says of a part: its name, bytes and SHA-256, and how many records it has."""

    name: str
    bytes: int
    sha256: str
    records: int


class Index:
    """``entries``: one for each part. ``lengths`` and ``crcs``: of the messages of all their records, int32 and
    uint32.
    """

    def __init__(self, entries: Sequence[PartEntry], lengths: np.ndarray, crcs: np.ndarray) -> None:
        self.entries, self.lengths, self.crcs = list(entries), lengths, crcs
        self._starts = np.cumsum([0] + [entry.records for entry in entries])

    def number_of(self, name: str) -> Optional[int]:
        """The number of the part ``name``, ``None`` for one that is not in the index."""
        return next((number for number, entry in enumerate(self.entries) if entry.name == name), None)

    def part(self, number: int) -> Tuple[np.ndarray, np.ndarray]:
        """The rows of a part as of ``index_part``, and the checksums of its records."""
        span = slice(self._starts[number], self._starts[number + 1])
        lengths = self.lengths[span].astype(np.int64)
        offsets = np.cumsum(lengths + PREFIX_BYTES) - lengths
        return np.stack([offsets, lengths], axis=1), self.crcs[span]

    def check(self, folder: Path, parts: Sequence[Path]) -> None:
        """Raise ``UsageError`` unless ``parts`` are those of the index, by name and size."""
        names = [part.name for part in parts]
        for entry in self.entries:
            path = folder / entry.name
            if entry.name not in names:
                raise UsageError(f"{path} is missing, {INDEX} there lists it; {_advice(folder)}")
            if path.stat().st_size != entry.bytes:
                raise UsageError(
                    f"{path} has {path.stat().st_size} bytes, {INDEX} there says {entry.bytes}; {_advice(folder)}"
                )
        for name in names:
            if self.number_of(name) is None:
                raise UsageError(f"{folder / name} is not in {INDEX} there; {_advice(folder)}")


def _advice(folder: Path) -> str:
    return (
        f"copy the folder again; or, if it is right as it is, remove {INDEX} and run 'entry.py prepare validate "
        f"{folder}'"
    )


class IndexWriter:
    """Makes the index of ``folder`` while its parts are read, one after another, by ``part``.

    Checksums and lengths wait in hidden files there, so the memory does not grow with the records. ``finish`` writes
    the index, complete or not at all; without it ``close`` leaves nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: List[PartEntry] = []
        self._spools = [open(folder / f".{name}.spool", "wb") for name in _TENSORS]

    def part(self, path: Path) -> Iterator[bytes]:
        """Go through the messages of one part; it is in the index when they have ended."""
        digest, size, records = hashlib.sha256(), 0, 0
        for message in messages(path):
            yield message
            data = framed(message)
            digest.update(data)
            size, records = size + len(data), records + 1
            for spool, number in zip(self._spools, (len(message), zlib.crc32(message))):
                spool.write((number & 0xFFFFFFFF).to_bytes(_DTYPE.itemsize, "little"))
        self._entries.append(PartEntry(path.name, size, digest.hexdigest(), records))

    def finish(self) -> Path:
        for spool in self._spools:
            spool.flush()
        kinds = {name: (_DTYPE, (sum(entry.records for entry in self._entries),)) for name in _TENSORS}
        metadata = {"format": str(_FORMAT), "parts": json.dumps([asdict(entry) for entry in self._entries])}
        path = self._folder / INDEX
        arrays = (np.memmap(spool.name, _DTYPE, "r") for spool in self._spools)
        replace_file(path, tensors.streamed(kinds, arrays, metadata))
        return path

    def close(self) -> None:
        for spool in self._spools:
            spool.close()
            os.unlink(spool.name)


def make_index(folder: Path, report: Callable[[int], None] = lambda records: None) -> Path:
    """Read all parts of ``folder`` once and write its index; ``report`` hears now and then how many records were read.

    Raises ``UsageError`` for a damaged part.
    """
    writer, records = IndexWriter(folder), 0
    try:
        for part in find_parts(folder):
            for _ in writer.part(part):
                records += 1
                if records % _REPORT_EVERY == 0:
                    report(records)
        return writer.finish()
    finally:
        writer.close()


def read_index(folder: Path) -> Optional[Index]:
    """The index of ``folder``, ``None`` where there is none. Raises ``UsageError`` for one that is damaged."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        with tensors.opened(path) as file:
            metadata: Any = file.metadata() or {}
            lengths, crcs = (file.get_tensor(name) for name in _TENSORS)
        if metadata.get("format") != str(_FORMAT):
            raise ValueError(f"its format is {metadata.get('format')}, this pipeloom reads {_FORMAT}")
        entries = [PartEntry(**entry) for entry in json.loads(metadata["parts"])]
        records = sum(entry.records for entry in entries)
        if any(array.dtype != _DTYPE or array.shape != (records,) for array in (lengths, crcs)) or (lengths < 0).any():
            raise ValueError("its tensors do not fit together")
        ends = np.cumsum([entry.records for entry in entries])
        for entry, of_part in zip(entries, np.split(lengths, ends[:-1])):
            if int(of_part.sum(dtype=np.int64)) + PREFIX_BYTES * entry.records != entry.bytes:
                raise ValueError(f"its lengths are not those of {entry.name}")
        return Index(entries, lengths, crcs.view(np.uint32))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{path} cannot be used ({error}); remove it and run 'entry.py prepare validate {folder}'"
        ) from None
