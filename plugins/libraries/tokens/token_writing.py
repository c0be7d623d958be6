"""Writing a token folder: at one go, or sealed after its files have grown over several tries (``prepare tokens``)."""

from __future__ import annotations

import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional, Sequence, Union

import numpy as np

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import whole_folder, write_file
from pipeloom.core.contract.tokenizer import TokenizerSource
from pipeloom.plugins.libraries.tokens.token_format import (
    BLOCK_BYTES,
    CHECKSUMS,
    DOCUMENTS,
    FACTS,
    TOKENS,
    TokenFacts,
    token_dtype,
)

#: While a folder is made: of each document the number of the token behind its last one, int64.
ENDS = "documents.ends"
_END = np.dtype("<i8")


class TokenFolderWriter:
    """Writes the folder ``path``, which appears whole, in place of what may stand there, when the ``with`` block ends.

    ``vocabulary`` is the tokenizer of the ids, ``source`` says in words where the text is from. Nothing appears where
    the block raises, or no document was added. Raises ``OSError``, and ``UsageError`` for a vocabulary that cannot be
    followed.
    """

    def __init__(self, path: Union[str, Path], vocabulary: TokenizerSource, source: str = "") -> None:
        self._path, self._vocabulary, self._source = Path(path), vocabulary, source
        self._vocab_size = len(vocabulary.load())
        self._dtype = token_dtype(self._vocab_size)
        self._end = 0
        self._stack = ExitStack()

    def __enter__(self) -> TokenFolderWriter:
        with ExitStack() as stack:
            self._folder = stack.enter_context(whole_folder(self._path))
            self._tokens = stack.enter_context(open(self._folder / TOKENS, "wb"))
            self._ends = stack.enter_context(open(self._folder / ENDS, "wb"))
            self._stack = stack.pop_all()
        return self

    def add(self, ids: Union[Sequence[int], np.ndarray]) -> None:
        """Add a document; one without tokens is passed over. Raises ``ValueError`` for an id out of the vocabulary."""
        array = np.asarray(ids)
        if not len(array):
            return
        if not 0 <= array.min() <= array.max() < self._vocab_size:
            raise ValueError(f"ids from {array.min()} to {array.max()}, the vocabulary has {self._vocab_size}")
        self._end += len(array)
        self._tokens.write(array.astype(self._dtype).tobytes())
        self._ends.write(_END.type(self._end).tobytes())

    def __exit__(self, kind: Any, *error: Any) -> Optional[bool]:
        with self._stack as stack:
            self._tokens.close()
            self._ends.close()
            if kind is None and self._end:
                for name, content in self._vocabulary.files().items():
                    (self._folder / name).write_bytes(content)
                seal(self._folder, self._folder / ENDS, self._vocabulary, self._source)
            elif kind is None:
                (self._folder / TOKENS).unlink()
            (self._folder / ENDS).unlink()
            return stack.__exit__(kind, *error)


def seal(folder: Path, ends: Path, vocabulary: TokenizerSource, source: str) -> TokenFacts:
    """Make a token folder of ``folder``, where ``TOKENS`` lies: the other files are written.

    ``ends``: a file with the number of the token behind the last one of each document, int64. In memory that does not
    grow with the text; may be done again after it was interrupted. Raises ``OSError``, and ``RunError`` where the two
    files do not belong together.
    """
    tokenizer = vocabulary.load()
    dtype = token_dtype(len(tokenizer))
    path = folder / TOKENS
    _write_documents(ends, folder / DOCUMENTS)
    offsets = np.load(folder / DOCUMENTS, mmap_mode="r")
    checksums = _block_checksums(path)
    facts = TokenFacts(
        dtype.name,
        tokens=int(offsets[-1]),
        documents=len(offsets) - 1,
        vocab_size=len(tokenizer),
        eos_id=tokenizer.special_id("eos"),
        vocabulary=vocabulary.digest(),
        source=source,
        documents_crc32=crc32_of(folder / DOCUMENTS),
        checksums_crc32=zlib.crc32(checksums.tobytes()),
    )
    if path.stat().st_size != facts.token_bytes:
        raise RunError(f"{path} has {path.stat().st_size} bytes, {facts.tokens} tokens are {facts.token_bytes}")
    np.save(folder / CHECKSUMS, checksums)
    write_file(folder / FACTS, facts.content())
    return facts


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of a file's content. Raises ``OSError``."""
    value = 0
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(BLOCK_BYTES), b""):
            value = zlib.crc32(piece, value)
    return value


def _block_checksums(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        return np.fromiter(map(zlib.crc32, iter(lambda: file.read(BLOCK_BYTES), b"")), np.dtype("<u4"))


def _write_documents(ends: Path, path: Path) -> None:
    """Write ``documents.npy``: 0, then what is in ``ends``."""
    count = ends.stat().st_size // _END.itemsize
    with open(path, "wb") as out, open(ends, "rb") as file:
        header = {"descr": _END.str, "fortran_order": False, "shape": (count + 1,)}
        np.lib.format.write_array_header_1_0(out, header)
        out.write(_END.type(0).tobytes())
        for piece in iter(lambda: file.read(BLOCK_BYTES), b""):
            out.write(piece)
