"""What turns text into token ids, as far as pipeloom must know of it."""

from __future__ import annotations

from typing import Dict, List, Optional, Protocol, Sequence, Tuple


class Tokenizer(Protocol):
    """Turns text into token ids and back. Ids are those of the rows of the model's embedding."""

    def __len__(self) -> int:
        """Return one more than the largest id."""

    def encode_with_offsets(self, text: str) -> Tuple[List[int], List[Tuple[int, int]]]:
        """Return the ids of ``text``, without special tokens around it, and of each the characters that it stands for.

        Offsets are ``start <= i < end`` in ``text``. Raises ``UsageError`` for text that is none (half a character).
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; special tokens are left out."""

    def special_id(self, role: str) -> Optional[int]:
        """Return the id of the token with a role: ``pad``, ``unk``, ``cls``, ``sep``, ``mask``, ``bos`` or ``eos``.

        ``None`` where there is none: GPT-2's tokenizer has no ``mask``, and only ``eos`` ends a text.
        """


class TokenizerSource:
    """Where a tokenizer comes from. Core copies its files into checkpoints and exports, and does not look into them.

    The methods raise ``UsageError`` for files that are not there or cannot be followed.
    """

    def files(self) -> Dict[str, bytes]:
        """Return the files by name, as a folder of HuggingFace has them."""
        raise NotImplementedError("abstract")

    def digest(self) -> str:
        """Return a hash of what decides the tokens."""
        raise NotImplementedError("abstract")

    def load(self) -> Tokenizer:
        """Build the tokenizer."""
        raise NotImplementedError("abstract")
