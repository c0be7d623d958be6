"""``entry.py prepare validate``: is every record what it should be, what is in them, and an index with checksums for the reader."""
from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from pipeloom.core.arguments import boolean
from pipeloom.core.errors import UsageError

SUMMARY = "every record of a folder checked, statistics, and an index with checksums that the reader uses"
_BATCH = 1024
_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a folder of OFRecord parts")
    parser.add_argument("--vocab", metavar="PATH",
                        help="vocab.txt, or a folder with tokenizer files, for records that have none beside them")
    parser.add_argument("--lowercase", type=boolean, metavar="{true,false}",
                        help="as that vocabulary was made [as its files say, else true]")


def run(options: argparse.Namespace) -> int:
    """Returns 0 where all is well, 1 where a record is not. Raises ``UsageError`` for what is no folder of records."""
    from pipeloom.core.control.signals import Signals, Stopped
    from pipeloom.core.prepare.progress import Progress

    folder = Path(options.folder).expanduser()
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the folder that it is in")
    try:
        with Signals() as signals, Progress(signals) as progress:
            return _Validation(folder, vocabulary(folder, options.vocab, options.lowercase), progress).run()
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr, flush=True)
        return stopped.exit_code


def vocabulary(folder: Path, given: Optional[str], lowercase: Optional[bool]) -> Any:
    """The tokenizer of the records in ``folder``: by what was given, else by what is there, else ``None``."""
    from pipeloom.core.data.dataset import Vocabulary

    found = Vocabulary.beside(folder, lowercase) if given is None else Vocabulary(Path(given).expanduser(), lowercase)
    return None if found is None else found.load()


class _Validation:
    def __init__(self, folder: Path, tokenizer: Any, progress: Any) -> None:
        from pipeloom.core.data.index import IndexWriter, find_parts, read_index

        self._folder, self._tokenizer, self._progress = folder, tokenizer, progress
        self._parts = find_parts(folder)
        self._index = read_index(folder)
        if self._index is not None:
            self._index.check(folder, self._parts)
        self._writer, self._why_not = None, ""
        if self._index is None:
            try:
                self._writer = IndexWriter(folder)
            except OSError as error:    # it can be read all the same
                self._why_not = error.strerror or str(error)
        self._checks: Any = None
        self._kinds: Dict[str, Tuple[np.dtype, int]] = {}
        self._bad: List[str] = []
        self._count = 0

    def run(self) -> int:
        total = sum(part.stat().st_size for part in self._parts)
        self._progress.begin("validating", total)
        records = done = 0
        try:
            for number, part in enumerate(self._parts):
                for first, messages in self._batches(number, part):
                    self._check(part, first, messages)
                    records, done = records + len(messages), done + sum(map(len, messages)) + 8 * len(messages)
                    self._progress.advance(done, records, "records")
            if not self._count and self._writer is not None:
                self._writer.finish()
        finally:
            if self._writer is not None:
                self._writer.close()
        return self._say(records, total)

    def _batches(self, number: int, part: Path) -> Iterator[Tuple[int, List[bytes]]]:
        """The messages of a part, some at a time, with the number of the first; those whose checksum is wrong are reported."""
        from pipeloom.core.data.ofrecord import messages

        crcs = self._index.part(number)[1] if self._index is not None else None
        batch: List[bytes] = []
        record = -1
        for record, message in enumerate(self._writer.part(part) if self._writer is not None else messages(part)):
            if crcs is not None and (record >= len(crcs) or zlib.crc32(message) != crcs[record]):
                self._report(f"{part} record {record}: is not the one in the index")
            batch.append(message)
            if len(batch) == _BATCH:
                yield record + 1 - len(batch), batch
                batch = []
        if batch:
            yield record + 1 - len(batch), batch

    def _check(self, part: Path, first: int, messages: List[bytes]) -> None:
        from pipeloom.core.data.ofrecord import BadRecord, decode

        rows, numbers = [], []
        for number, message in enumerate(messages, first):
            try:
                record = decode(message)
                self._compare(record)
                rows.append(record)
                numbers.append(number)
            except BadRecord as bad:
                self._report(f"{part} record {number}: {bad}")
        if rows and not any(dtype == object for dtype, _ in self._kinds.values()):
            batch = {name: np.stack([row[name] for row in rows]) for name in self._kinds}
            for row, what in self._checks.faults(batch):
                self._report(f"{part} record {numbers[row]}: {what}")

    def _compare(self, record: Dict[str, np.ndarray]) -> None:
        """All records have the fields of the first one."""
        from pipeloom.core.data.ofrecord import BadRecord
        from pipeloom.core.prepare.checks import Checks

        kinds = {name: (array.dtype, array.size) for name, array in record.items()}
        if self._checks is None:
            self._kinds, self._checks = kinds, Checks(list(kinds), self._tokenizer)
        for name in {**self._kinds, **kinds}:
            if name not in kinds or name not in self._kinds:
                raise BadRecord(f"{'has no' if name not in kinds else 'has a'} field '{name}', the first record "
                                f"{'has' if name not in kinds else 'has not'}")
            if kinds[name] != self._kinds[name] and self._kinds[name][0] != object:
                raise BadRecord(f"field '{name}' is {_kind(kinds[name])}, in the first record {_kind(self._kinds[name])}")

    def _report(self, line: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            print(line, flush=True)

    def _say(self, records: int, total: int) -> int:
        if self._count:
            more = f" (the first {_SHOWN} are above)" if self._count > _SHOWN else ""
            what = "no index was written" if self._index is None else "they are not what the index was made of, or were bad then"
            print(f"{self._count} of {records:,} records are bad{more}; {what}")
            return 1
        fields = ", ".join(f"{name} {_kind(kind)}" for name, kind in self._kinds.items())
        parts = "1 part" if len(self._parts) == 1 else f"{len(self._parts)} parts"
        print(f"{self._folder}: {records:,} {self._checks.kind} in {parts}, {total / 1e6:.1f} MB; all are as they should be")
        for name, phrase in {"fields": fields, **self._checks.statistics(records)}.items():
            print(f"{name:14} {phrase}")
        written = f"not written: {self._why_not}" if self._why_not else "written to index.safetensors"
        print(f"{'index':14} {written if self._index is None else 'agrees with every record'}")
        return 0


def _kind(kind: Tuple[np.dtype, int]) -> str:
    dtype, size = kind
    return "bytes" if dtype == object else f"{dtype}[{size}]"
