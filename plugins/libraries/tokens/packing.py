"""Documents end to end, each followed by a token of its own, cut into samples of a fixed length.

Nothing of the packing is on disk: where a sample begins follows from its number, so one token folder serves any length.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder


class Packed(NamedTuple):
    """A piece of a stream: ``ids`` and ``documents``, the number of the document of each, both int32 ``(tokens,)``.

    The token after a document belongs to it.
    """

    ids: np.ndarray
    documents: np.ndarray


class _Starts(Sequence):
    """Where in the stream each document begins; without holding that in memory."""

    def __init__(self, offsets: np.ndarray) -> None:
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index):
        return int(self._offsets[index]) + index


class TokenStream:
    """All documents of a folder in their order, ``separator`` after each; the folder's end-of-text token by default.

    Raises ``UsageError`` where there is no such token, or it is beyond the vocabulary.
    """

    def __init__(self, folder: TokenFolder, separator: Optional[int] = None) -> None:
        self.folder = folder
        self.separator = folder.eos_id if separator is None else separator
        if self.separator is None:
            raise UsageError(
                f"{folder.path}: its vocabulary has no token that ends a text (eos_token, <|endoftext|>), which stands "
                "between documents: make the folder with a vocabulary that has one"
            )
        if not 0 <= self.separator < folder.vocab_size:
            raise UsageError(f"{folder.path}: the separator {self.separator} is no id below {folder.vocab_size}")
        self._starts = _Starts(folder.offsets)

    def __len__(self) -> int:
        """Return the number of tokens, separators among them."""
        return self.folder.facts.tokens + len(self.folder)

    def read(self, start: int, end: int) -> Packed:
        """Return the tokens ``start <= i < end``: O(log documents), and the size of what is returned."""
        if not 0 <= start <= end <= len(self):
            raise IndexError(f"tokens {start} to {end} of a stream of {len(self)}")
        places = np.arange(start, end)
        if start == end:
            return Packed(places.astype(np.int32), places.astype(np.int32))
        first, last = self._document(start), self._document(end - 1)
        offsets = np.asarray(self.folder.offsets[first : last + 2])
        numbers = np.arange(first, last + 1)
        documents = first + np.searchsorted(offsets[:-1] + numbers, places, side="right") - 1
        # Before a place in the stream stand as many separators as documents.
        sources = places - documents
        is_separator = sources == offsets[documents - first + 1]
        ids = np.full(len(places), self.separator, np.int32)
        inside = sources[~is_separator]
        if len(inside):
            ids[~is_separator] = self.folder.read(int(inside[0]), int(inside[-1]) + 1)
        return Packed(ids, documents.astype(np.int32))

    def _document(self, place: int) -> int:
        return bisect_right(self._starts, place) - 1


class PackedSamples:
    """A stream in samples of ``length`` tokens each; sample ``i`` begins at ``i * length``.

    With ``overlap`` (1 for the token after the last one, which a causal model predicts) each sample goes on so far into
    the next one. The last sample may be shorter: every token is in a sample, and with an overlap every token but the
    first is one after another. Raises ``UsageError`` where there is not one sample.
    """

    def __init__(self, folder: TokenFolder, length: int, overlap: int = 0, separator: Optional[int] = None) -> None:
        self.stream = TokenStream(folder, separator)
        self._length, self._overlap = length, overlap
        self._count = max(0, -(-(len(self.stream) - overlap) // length))
        if not self._count:
            raise UsageError(f"{folder.path} has {len(self.stream)} tokens, which make no sample")

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Packed:
        """Return sample ``index``: up to ``length + overlap`` tokens."""
        start, end = self.bounds(index)
        return self.stream.read(start, end)

    def bounds(self, index: int) -> Tuple[int, int]:
        """Return where in the stream a sample begins and ends."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        start = index * self._length
        return start, min(start + self._length + self._overlap, len(self.stream))
