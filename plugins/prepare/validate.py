"""``entry.py prepare validate``: is every record what it should be, what is in them, and an index with checksums for
the reader.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.core.contract.record_kinds import RecordFolder
from pipeloom.plugins.libraries.tokens.token_format import is_token_folder
from pipeloom.plugins.prepare.held_records import HeldRecords
from pipeloom.plugins.prepare.record_kind_lookup import RecordKinds

SUMMARY = "every record or token of a folder checked, statistics, and an index with checksums that the reader uses"
_BATCH = 1024
_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a folder of OFRecord parts, or a token folder")
    parser.add_argument(
        "--vocab",
        metavar="PATH",
        help="vocab.txt, or a folder with tokenizer files, for records that have none beside them",
    )
    for name, what in (
        ("seq_length", "tokens of a record"),
        ("max_predictions", "predictions of a record"),
        ("vocab_size", "tokens of the vocabulary"),
    ):
        parser.add_argument(
            f"--{name}",
            type=at_least(1),
            default=None,
            metavar="N",
            help=f"{what}, as training will ask for them [as the first record and the vocabulary have it]",
        )
    parser.add_argument(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as that vocabulary was made [as its files say, else true]",
    )


def run(options: argparse.Namespace) -> int:
    """Returns 0 where all is well, 1 where a record is not. Raises ``UsageError`` for what is no folder of records."""
    folder = Path(options.folder).expanduser()
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the folder that it is in")
    if is_token_folder(folder):
        from pipeloom.plugins.prepare.token_folders import validate_tokens

        return _stoppable(lambda progress: validate_tokens(folder, progress))
    sizes = {name: getattr(options, name) for name in ("seq_length", "max_predictions", "vocab_size")}
    source = vocabulary(folder, options.vocab, options.lowercase)
    if options.vocab is not None:
        source.load()  # what cannot be read is said before any record is
    asked = RecordFolder(
        folder, {name: size for name, size in sizes.items() if size is not None}, source, options.vocab is not None
    )
    return _stoppable(lambda progress: _Validation(asked, RecordKinds(options.plugins), progress).run())


def _stoppable(validate: Callable[[Any], int]) -> int:
    from pipeloom.core.launch.control.signals import Signals, Stopped
    from pipeloom.plugins.libraries.preparation.progress import Progress

    try:
        with Signals() as signals, Progress(signals) as progress:
            return validate(progress)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr, flush=True)
        return stopped.exit_code


def vocabulary(folder: Path, given: Optional[str], lowercase: Optional[bool]) -> Any:
    """Return the vocabulary of the records in ``folder``: what was given, else what is there, else ``None``."""
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

    return Vocabulary.beside(folder, lowercase) if given is None else Vocabulary(Path(given).expanduser(), lowercase)


class _Validation:
    def __init__(self, asked: RecordFolder, kinds: RecordKinds, progress: Any) -> None:
        from pipeloom.plugins.libraries.ofrecord.index import IndexWriter, find_parts, read_index

        self._asked, self._kinds, self._progress = asked, kinds, progress
        self._folder = folder = asked.path
        self._parts = find_parts(folder)
        self._index = read_index(folder)
        if self._index is not None:
            self._index.check(folder, self._parts)
        self._writer, self._why_not = None, ""
        if self._index is None:
            try:
                self._writer = IndexWriter(folder)
            except OSError as error:  # it can be read all the same
                self._why_not = error.strerror or str(error)
        self._first: Dict[str, Tuple[np.dtype, int]] = {}  # of the fields of the first record type and length
        self._held: Optional[HeldRecords] = None  # None: of a kind that is not known
        self._notes: Counter = Counter()
        self._count, self._fault = 0, ""

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
            self._fault = self._held.fault_of_folder(records) if not self._count and self._held is not None else ""
        finally:
            if self._writer is not None:
                self._writer.close()
        return self._say(records, total)

    def _batches(self, number: int, part: Path) -> Iterator[Tuple[int, List[bytes]]]:
        """The messages of a part, some at a time, with the number of the first; those whose checksum is wrong are
        reported.
        """
        from pipeloom.plugins.libraries.ofrecord.records import messages

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
        from pipeloom.plugins.libraries.ofrecord.records import BadRecord

        rows, numbers = [], []
        for number, message in enumerate(messages, first):
            try:
                rows.append(self._decoded(message))
                numbers.append(number)
            except BadRecord as bad:
                self._report(f"{part} record {number}: {bad}")
        if not rows or self._held is None:
            return
        batch = {name: np.stack([row[name] for row in rows]) for name in self._held.format.fields}
        faults = self._held.faults(batch)
        for row, what in sorted(faults.items()):
            self._report(f"{part} record {numbers[row]}: {what}")
        good = [row for row in range(len(rows)) if row not in faults]
        if good:
            self._notes.update(self._held.count({name: values[good] for name, values in batch.items()}))

    def _decoded(self, message: bytes) -> Dict[str, np.ndarray]:
        """A record as training decodes it; one of a kind that is not known need only be like the first one."""
        from pipeloom.plugins.libraries.ofrecord.records import BadRecord, decode

        if not self._first:
            record = decode(message)
            self._first = {name: (array.dtype, array.size) for name, array in record.items()}
            kind = self._kinds.matching(record)
            self._held = None if kind is None else HeldRecords(kind, record, self._asked)
        if self._held is not None:
            return self._held.format.decode(message, list(self._held.format.fields))
        record = decode(message)
        found = {name: (array.dtype, array.size) for name, array in record.items()}
        for name in {**self._first, **found}:
            if name not in found or name not in self._first:
                raise BadRecord(
                    f"{'has no' if name not in found else 'has a'} field '{name}', the first record "
                    f"{'has' if name not in found else 'has not'}"
                )
            if found[name] != self._first[name] and self._first[name][0] != np.dtype(object):
                raise BadRecord(
                    f"field '{name}' is {_kind(found[name])}, in the first record {_kind(self._first[name])}"
                )
        return record

    def _report(self, line: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            print(line, flush=True)

    def _say(self, records: int, total: int) -> int:
        if self._count:
            more = f" (the first {_SHOWN} are above)" if self._count > _SHOWN else ""
            what = (
                "no index was written"
                if self._index is None
                else "they are not what the index was made of, or were bad then"
            )
            print(f"{self._count} of {records:,} records are bad{more}; {what}")
            return 1
        if self._fault:
            print(self._fault)
            return 1
        fields = ", ".join(f"{name} {_kind(kind)}" for name, kind in self._first.items())
        title = self._held.name if self._held is not None else "records of a kind that is not known here"
        statistics = self._held.statistics(records) if self._held is not None else {}
        parts = "1 part" if len(self._parts) == 1 else f"{len(self._parts)} parts"
        print(f"{self._folder}: {records:,} {title} in {parts}, {total / 1e6:.1f} MB; all are as they should be")
        for name, phrase in {"fields": fields, **statistics}.items():
            print(f"{name:14} {phrase}")
        for (what, why), count in self._notes.items():
            if count:
                print(f"{'note':14} {what} in {count:,} of the records{why}")
        written = f"not written: {self._why_not}" if self._why_not else "written to index.safetensors"
        print(f"{'index':14} {written if self._index is None else 'agrees with every record'}")
        return 0


def _kind(kind: Tuple[np.dtype, int]) -> str:
    dtype, size = kind
    return "bytes" if dtype == np.dtype(object) else f"{dtype}[{size}]"


KIND = PrepareKind("validate", SUMMARY, add_arguments, run)
