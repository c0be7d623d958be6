"""What a token folder is: its files, and ``tokens.json``, which says what they hold.

- ``tokens.bin``: the ids of all documents, one after the other, little-endian uint16 or uint32; no token between them.
- ``documents.npy``: int64 ``(documents + 1,)``; document ``i`` has the tokens ``documents[i]`` to ``documents[i + 1]``.
- ``checksums.npy``: uint32, the CRC-32 of each block of ``BLOCK_BYTES`` of ``tokens.bin``, so that a reader can hold
  each block against it when it first reads there, and need not read a file of a hundred gigabytes before it begins.
- ``tokens.json``: :class:`TokenFacts`. The files of the tokenizer lie beside it, as in a folder of HuggingFace.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from pipeloom.core.base.errors import UsageError, shown

TOKENS, DOCUMENTS, CHECKSUMS, FACTS = "tokens.bin", "documents.npy", "checksums.npy", "tokens.json"
#: Raised where a reader of today could not read what a writer makes.
FORMAT = 1
BLOCK_BYTES = 1 << 18

_DTYPES = ("uint16", "uint32")
_COUNTS = ("format", "tokens", "documents", "vocab_size", "documents_crc32", "checksums_crc32")


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest type on disk that holds the ids of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


@dataclass(frozen=True)
class TokenFacts:
    """Hold what ``tokens.json`` says.

    ``vocab_size``: all ids are below it; ``eos_id``: the token that ends a text, where the vocabulary has one;
    ``vocabulary``: the digest of the tokenizer, by which folders of the same tokens are known;
    ``source``: where the text came from, in words; ``documents_crc32``, ``checksums_crc32``: of these files' content.
    """

    dtype: str
    tokens: int
    documents: int
    vocab_size: int
    eos_id: Optional[int]
    vocabulary: str
    source: str
    documents_crc32: int
    checksums_crc32: int
    format: int = FORMAT

    @property
    def token_bytes(self) -> int:
        """Return the size of ``tokens.bin``."""
        return self.tokens * np.dtype(self.dtype).itemsize

    @property
    def blocks(self) -> int:
        """Return the number of checksums."""
        return -(-self.token_bytes // BLOCK_BYTES)

    def content(self) -> bytes:
        """Return the content of ``tokens.json``."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> TokenFacts:
        """Read them from ``folder``. Raises ``UsageError`` where it is no token folder, or one of a later version."""
        path = folder / FACTS
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"{folder} is no token folder, it has no {FACTS} ({error.strerror or error}): make one "
                "with 'prepare tokens'"
            ) from None
        except (ValueError, RecursionError):
            raise UsageError(f"{path} is no JSON file: make the folder again with 'prepare tokens'") from None
        fault = _fault(said)
        if fault:
            raise UsageError(f"{path}: {fault}; make the folder again with 'prepare tokens'")
        return cls(**{name: said[name] for name in cls.__dataclass_fields__})


def is_token_folder(path: Path) -> bool:
    """Return whether ``path`` is meant as a token folder."""
    return (path / FACTS).is_file()


def _fault(said: Any) -> str:
    """Say what is wrong with the content of ``tokens.json``, "" for nothing."""
    if not isinstance(said, dict):
        return f"it must be a JSON object, not {shown(said)}"
    values: Dict[str, Any] = said
    missing = [name for name in TokenFacts.__dataclass_fields__ if name not in values]
    if missing:
        return f"it has no '{missing[0]}'"
    for name in _COUNTS:
        if type(values[name]) is not int or values[name] < 0:
            return f"'{name}' must be a whole number from 0, not {shown(values[name])}"
    if values["format"] != FORMAT:
        return f"it is of format {values['format']}, this pipeloom reads format {FORMAT}"
    if values["dtype"] not in _DTYPES:
        return f"'dtype' must be {' or '.join(_DTYPES)}, not {shown(values['dtype'])}"
    end = values["eos_id"]
    if end is not None and (type(end) is not int or not 0 <= end < values["vocab_size"]):
        return f"'eos_id' must be an id below 'vocab_size', not {shown(end)}"
    for name in ("source", "vocabulary"):
        if not isinstance(values[name], str):
            return f"'{name}' must be text, not {shown(values[name])}"
    return ""
