"""Token folders for ``prepare validate`` and ``prepare inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.plugins.libraries.tokens.token_format import BLOCK_BYTES
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder

_SHOWN = 10
#: Tokens of a document that are shown.
_TOKENS = 400


def validate_tokens(path: Path, progress: Any) -> int:
    """Read all tokens, print what is wrong and what is in them; returns 0 where all is well, else 1.

    Raises ``UsageError`` for a folder that cannot be opened.
    """
    folder = TokenFolder.open(path)
    total, step = folder.facts.tokens, BLOCK_BYTES // np.dtype(folder.facts.dtype).itemsize
    counts = np.zeros(folder.vocab_size, np.int64)
    faults = 0
    progress.begin("validating", total)
    for start in range(0, total, step):
        end = min(start + step, total)
        try:
            counts += np.bincount(folder.read(start, end), minlength=folder.vocab_size)
        except RunError as error:
            faults += 1
            if faults <= _SHOWN:
                print(error, flush=True)
        progress.advance(end, end, "tokens")
    if faults:
        print(f"{faults} of {folder.facts.blocks:,} blocks of {path} are damaged")
        return 1
    sizes = np.diff(folder.offsets)
    said = {
        "tokens": f"{sizes.mean():,.1f} a document, from {sizes.min():,} to {sizes.max():,}",
        "vocabulary": f"{np.count_nonzero(counts):,} of its {folder.vocab_size:,} tokens occur",
        "end of a text": "the vocabulary has no token for it" if folder.eos_id is None else f"id {folder.eos_id}",
    }
    if folder.eos_id is not None and counts[folder.eos_id]:
        said["note"] = f"the token that ends a text is {counts[folder.eos_id]:,} times inside of documents"
    print(f"{path}: {total:,} tokens in {len(folder):,} documents; all are as they should be")
    for name, phrase in said.items():
        print(f"{name:14} {phrase}")
    return 0


def show_documents(path: Path, first: int, count: int, vocabulary: Any) -> int:
    """Print documents as text; returns 0. Raises ``UsageError`` where there is no tokenizer, or no such document."""
    folder = TokenFolder.open(path)
    if vocabulary is None:
        raise UsageError(f"{path} has token ids and no tokenizer beside it; give it with --vocab")
    tokenizer = vocabulary.load()
    if len(tokenizer) != folder.vocab_size:
        raise UsageError(
            f"{path} was made with a vocabulary of {folder.vocab_size} tokens, {vocabulary.path} has {len(tokenizer)}"
        )
    if first >= len(folder):
        raise UsageError(f"{path} has no document {first}; it has {len(folder)}, numbered from 0")
    for number in range(first, min(first + count, len(folder))):
        start, end = int(folder.offsets[number]), int(folder.offsets[number + 1])
        text = tokenizer.decode(folder.read(start, min(end, start + _TOKENS)).tolist())
        print(f"\n{path} document {number}, {end - start:,} tokens\n{text}{' ...' if end - start > _TOKENS else ''}")
    return 0
