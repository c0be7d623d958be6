"""``entry.py prepare inspect``: records as a person reads them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.plugins.prepare.validate import vocabulary

SUMMARY = "records as text, with the masked words shown"
_LEGEND = "[MASK: word] is hidden, [other: word] has another word in its place, [=word] is asked for and shown as it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", metavar="FILE", help="a part, or a folder of parts")
    add("--record", type=at_least(0), default=0, metavar="N", help="the first record to print, from 0 [0]")
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
    parser.epilog = f"In the text {_LEGEND}."


def run(options: argparse.Namespace) -> int:
    """Print; returns 0. Raises ``UsageError``."""
    from pipeloom.plugins.libraries.ofrecord.index import find_parts
    from pipeloom.plugins.libraries.ofrecord.records import BadRecord, decode

    path = Path(options.path).expanduser()
    parts = find_parts(path)
    tokenizer = vocabulary(parts[0].parent, options.vocab, options.lowercase)
    shown = 0
    for where, message in _chosen(parts, options.record, options.count):
        try:
            record = decode(message)
        except BadRecord as bad:
            raise UsageError(f"{where}: {bad}") from None
        if "input_ids" in record and tokenizer is None:
            raise UsageError(f"{path} has token ids and no vocab.txt beside it; give it with --vocab")
        if shown == 0 and _is_whole(record, _PREDICTIONS):
            print(f"In the text {_LEGEND}.")
        print("\n".join([f"\n{where}", *lines_of(record, tokenizer)]))
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


def lines_of(record: Dict[str, np.ndarray], tokenizer: Any) -> List[str]:
    """What to print of a record: of text the text, of anything else the arrays."""
    if not _is_whole(record, _TEXT):
        return [f"  {name:22} {_array(array)}" for name, array in record.items()]
    length = int(np.clip(record["input_mask"].sum(), 0, record["input_ids"].size))
    words = [_word(number, tokenizer) for number in record["input_ids"][:length].tolist()]
    segments = record["segment_ids"][:length]
    if _is_whole(record, _PREDICTIONS):
        return _pretraining(record, words, segments, tokenizer)
    begin = int((segments == 0).sum())
    lines = [f"  question   {_joined(words[1 : begin - 1])}", f"  context    {_joined(words[begin:-1])}"]
    if _is_whole(record, ("start_positions", "end_positions")):
        start, end = int(record["start_positions"][0]), int(record["end_positions"][0])
        answer = _joined(words[start : end + 1]) if 0 < start <= end < length else "not in this window"
        lines.append(f"  answer     {answer} (tokens {start} to {end})")
    if _is_whole(record, ("unique_ids",)):
        lines.append(f"  unique id  {int(record['unique_ids'][0])}")
    return lines


_TEXT, _PREDICTIONS = (
    ("input_ids", "input_mask", "segment_ids"),
    ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"),
)


def _is_whole(record: Dict[str, np.ndarray], names: Sequence[str]) -> bool:
    """Whether the fields are there, as numbers, as many of each as of the others."""
    arrays = [record[name] for name in names if name in record and record[name].dtype != object]
    return len(arrays) == len(names) and len({array.size for array in arrays}) == 1 and arrays[0].size > 0


def _word(number: int, tokenizer: Any) -> str:
    return tokenizer.tokens[number] if 0 <= number < len(tokenizer) else f"<{number}>"


def _pretraining(record: Dict[str, np.ndarray], words: List[str], segments: np.ndarray, tokenizer: Any) -> List[str]:
    weights = record["masked_lm_weights"] > 0
    outside = []
    for position, number in zip(
        record["masked_lm_positions"][weights].tolist(), record["masked_lm_ids"][weights].tolist()
    ):
        true = _word(number, tokenizer)
        if not 0 <= position < len(words):
            outside.append(f"{true} at {position}")
            continue
        seen = words[position]
        marked = (
            f"[={true.replace('##', '')}]"
            if seen == true
            else f"[{seen.strip('[]').replace('##', '')}: {true.replace('##', '')}]"
        )
        words[position] = ("##" if true.startswith("##") else "") + marked
    first = int((segments == 0).sum())
    lines = [f"  first   {_joined(words[1 : first - 1])}", f"  second  {_joined(words[first:-1])}"]
    if outside:
        lines.append(f"  asked for outside of the text: {', '.join(outside)}")
    label = ""
    if _is_whole(record, ("next_sentence_labels",)):
        what = "another document's text" if record["next_sentence_labels"][0] else "the next sentence"
        label = f"the second is {what}; "
    return [*lines, f"  {label}{len(words)} tokens, {int(weights.sum())} to be predicted"]


def _joined(words: Sequence[str]) -> str:
    """WordPieces as words."""
    return " ".join(words).replace(" ##", "")


def _array(array: np.ndarray) -> str:
    text = " ".join(map(str, array[:16].tolist()))
    return (
        f"{'bytes' if array.dtype == object else array.dtype}[{array.size}] {text}{' ...' if array.size > 16 else ''}"
    )


KIND = PrepareKind("inspect", SUMMARY, add_arguments, run)
