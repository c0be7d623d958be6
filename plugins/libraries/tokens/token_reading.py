"""Reading a token folder: memory maps, each block held against its checksum when something of it is first read."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any, Dict, Optional, Type, Union

import numpy as np

from pipeloom.core.base.errors import PipeloomError, RunError, UsageError
from pipeloom.core.contract.tokenizer import TokenizerSource
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.token_format import (
    BLOCK_BYTES,
    CHECKSUMS,
    DOCUMENTS,
    FACTS,
    TOKENS,
    TokenFacts,
)
from pipeloom.plugins.libraries.tokens.token_writing import crc32_of

_AGAIN = "copy it again, or make it again with 'prepare tokens'"
_CHUNK = 1 << 20


class TokenFolder:
    """The documents of a token folder.

    ``offsets``: int64 ``(documents + 1,)``; ``vocab_size``: all ids are below it; ``eos_id``: the token that ends a
    text, or ``None``; ``vocabulary``: the tokenizer beside the tokens, ``None`` where there is none.

    ``open`` raises ``UsageError`` for a folder that is none, or not whole. Reading raises ``RunError`` where the tokens
    are damaged: so no id from a damaged file, nor one beyond the vocabulary, is returned.
    """

    def __init__(self, path: Path, facts: TokenFacts) -> None:
        self.path, self.facts = path, facts
        #: What the user calls it: of a folder of the cache, the text that it was made of.
        self.place: Union[str, Path] = path
        self.vocab_size, self.eos_id = facts.vocab_size, facts.eos_id
        self.offsets = self._array(DOCUMENTS, np.dtype("<i8"), facts.documents + 1, facts.documents_crc32)
        self._checksums = self._array(CHECKSUMS, np.dtype("<u4"), facts.blocks, facts.checksums_crc32)
        self._map: Optional[np.ndarray] = None
        self._seen = np.zeros(facts.blocks, bool)
        self._check_offsets()
        try:
            size = (path / TOKENS).stat().st_size
        except OSError as error:
            raise UsageError(f"cannot read {path / TOKENS}: {error.strerror or error}; {_AGAIN}") from None
        if size != facts.token_bytes:
            raise UsageError(f"{path / TOKENS} has {size} bytes, {FACTS} says {facts.token_bytes}; {_AGAIN}")
        self._hold(0, min(1, facts.tokens), UsageError)

    @classmethod
    def open(cls, path: Union[str, Path]) -> TokenFolder:
        """Open the token folder ``path``."""
        folder = Path(path).expanduser()
        return cls(folder, TokenFacts.read(folder))

    def __len__(self) -> int:
        """Return the number of documents."""
        return self.facts.documents

    @property
    def vocabulary(self) -> Optional[TokenizerSource]:
        """Return the tokenizer that lies beside the tokens."""
        return Vocabulary.beside(self.path)

    @property
    def tokens(self) -> np.ndarray:
        """Return the memory map of all ids. What is read from it itself is held against nothing; ``read`` does that."""
        if self._map is None:
            try:
                self._map = np.memmap(self.path / TOKENS, np.dtype(self.facts.dtype).newbyteorder("<"), "r")
            except (OSError, ValueError) as error:  # ValueError: it became empty
                raise RunError(f"cannot read {self.path / TOKENS}: {error}") from None
        return self._map

    def read(self, start: int, end: int) -> np.ndarray:
        """Return the ids ``start <= i < end`` of all documents together, int32 ``(end - start,)``."""
        if not 0 <= start <= end <= self.facts.tokens:
            raise IndexError(f"tokens {start} to {end} of {self.facts.tokens}")
        self._hold(start, end, RunError)
        return self.tokens[start:end].astype(np.int32)

    def document(self, index: int) -> np.ndarray:
        """Return the ids of a document, int32."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        return self.read(int(self.offsets[index]), int(self.offsets[index + 1]))

    def describe(self) -> str:
        """Return a phrase for the log."""
        return f"{self.facts.tokens:,} tokens in {len(self):,} documents of {self.place}"

    def fingerprint(self) -> str:
        """Return a hash that is the same wherever these very tokens lie."""
        facts = self.facts
        counts = (facts.dtype, facts.tokens, facts.documents, facts.vocab_size, facts.eos_id)
        return hashlib.sha256(repr((counts, facts.documents_crc32, facts.checksums_crc32)).encode()).hexdigest()

    def __getstate__(self) -> Dict[str, Any]:
        """For a spawned worker: it maps the file itself."""
        return {**self.__dict__, "_map": None}

    def _hold(self, start: int, end: int, error: Type[PipeloomError]) -> None:
        """Raise ``error`` where a block that has some of the tokens ``start <= i < end`` is not what was written."""
        if start == end:
            return
        per_block = BLOCK_BYTES // np.dtype(self.facts.dtype).itemsize
        for block in range(start // per_block, (end - 1) // per_block + 1):
            if self._seen[block]:
                continue
            first = block * per_block
            ids = self.tokens[first : first + per_block]
            where = f"{self.path / TOKENS} is damaged at tokens {first} to {first + len(ids) - 1}"
            if zlib.crc32(ids.data) != self._checksums[block]:
                raise error(f"{where}, its checksum is not that of {CHECKSUMS}; {_AGAIN}")
            if int(ids.max()) >= self.vocab_size:
                raise error(f"{where}, it has the id {ids.max()} and {FACTS} says that all are below {self.vocab_size}")
            self._seen[block] = True

    def _array(self, name: str, dtype: np.dtype, count: int, checksum: int) -> np.ndarray:
        path = self.path / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            whole = (array.dtype, array.shape) == (dtype, (count,))
            crc32 = crc32_of(path) if name == DOCUMENTS else zlib.crc32(array.tobytes())
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}; {_AGAIN}") from None
        except (ValueError, EOFError, SyntaxError):  # what numpy says of a damaged head
            whole, crc32 = False, 0
        if not whole or crc32 != checksum:
            raise UsageError(f"{path} is damaged, or of another token folder than {FACTS}; {_AGAIN}")
        return array

    def _check_offsets(self) -> None:
        offsets, good = self.offsets, self.offsets[0] == 0 and self.offsets[-1] == self.facts.tokens
        for first in range(0, len(self), _CHUNK):
            good = good and bool((np.diff(offsets[first : first + _CHUNK + 1]) > 0).all())
        if not good:
            raise UsageError(f"{self.path / DOCUMENTS} does not fit {TOKENS}: its offsets do not rise; {_AGAIN}")
