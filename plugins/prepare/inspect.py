"""``entry.py prepare inspect``: records as a person reads them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Iterator, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.plugins.libraries.tokens.token_format import is_token_folder
from pipeloom.plugins.prepare.record_kind_lookup import RecordKinds, built_in_record_kinds
from pipeloom.plugins.prepare.validate import vocabulary

SUMMARY = "records or documents as text, with the masked words shown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", metavar="FILE", help="a part, a folder of parts, or a token folder")
    add("--record", type=at_least(0), default=0, metavar="N", help="the first record or document, from 0 [0]")
    add("--count", type=at_least(1), default=3, metavar="N", help="how many [3]")
    add(
        "--vocab",
        metavar="PATH",
        help="vocab.txt, or a folder with tokenizer files, where none lies beside the records",
    )
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as that vocabulary was made [as its files say, else true]",
    )
    parser.epilog = " ".join(kind.legend for kind in built_in_record_kinds() if kind.legend)


def run(options: argparse.Namespace) -> int:
    """Print; returns 0. Raises ``UsageError``."""
    from pipeloom.plugins.libraries.ofrecord.index import find_parts
    from pipeloom.plugins.libraries.ofrecord.records import BadRecord, decode

    path = Path(options.path).expanduser()
    if is_token_folder(path):
        from pipeloom.plugins.prepare.token_folders import show_documents

        source = vocabulary(path, options.vocab, options.lowercase)
        return show_documents(path, options.record, options.count, source)
    parts = find_parts(path)
    source = vocabulary(parts[0].parent, options.vocab, options.lowercase)
    tokenizer = None if source is None else source.load()
    kinds = RecordKinds(options.plugins)
    shown = 0
    for where, message in _chosen(parts, options.record, options.count):
        try:
            record = decode(message)
        except BadRecord as bad:
            raise UsageError(f"{where}: {bad}") from None
        kind, lines = kinds.showing(record, tokenizer) or (None, None)
        if lines is None:
            if "input_ids" in record and tokenizer is None:
                raise UsageError(f"{path} has token ids and no vocab.txt beside it; give it with --vocab")
            lines = [f"  {name:22} {_array(array)}" for name, array in record.items()]
        if shown == 0 and kind is not None and kind.value.legend:
            print(kind.value.legend)
        print("\n".join([f"\n{where}", *lines]))
        shown += 1
    if not shown:
        raise UsageError(f"{path} has no record {options.record}; they are numbered from 0")
    return 0


def _chosen(parts: Sequence[Path], first: int, count: int) -> Iterator[Tuple[str, bytes]]:
    """The messages of the records ``first`` and on, over all parts, and where they are."""
    from pipeloom.plugins.libraries.ofrecord.records import index_part

    for part in parts:
        rows = index_part(part)
        for number in range(first, min(first + count, len(rows))):
            with open(part, "rb") as file:
                file.seek(int(rows[number, 0]))
                yield f"{part} record {number}", file.read(int(rows[number, 1]))
            count -= 1
        first = max(0, first - len(rows))
        if count == 0:
            return


def _array(array: np.ndarray) -> str:
    text = " ".join(map(str, array[:16].tolist()))
    return (
        f"{'bytes' if array.dtype == object else array.dtype}[{array.size}] {text}{' ...' if array.size > 16 else ''}"
    )


KIND = PrepareKind("inspect", SUMMARY, add_arguments, run)
