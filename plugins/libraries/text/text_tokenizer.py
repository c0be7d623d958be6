"""A tokenizer that was built from files, as all that is done with it needs it; and that of BPE."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from tokenizers import Tokenizer

from pipeloom.core.base.errors import UsageError, shown
from pipeloom.plugins.libraries.text.special_tokens import ROLES
from pipeloom.plugins.libraries.text.tokenizer_building import Built


class TextTokenizer:
    """Turns text into token ids.

    ``tokens[i]`` is the token with id ``i``, and "" where no token has that id. ``has_segments``: whether the second
    of two texts is told from the first. ``notes`` are lines on files that say different things. With
    ``special_in_text`` "[MASK]" in a text is that token, as in transformers; else text produces no special token but
    that for an unknown word.
    """

    def __init__(self, built: Built, source: str, special_in_text: bool = False) -> None:
        self._tokenizer: Tokenizer = built.engine
        self._source = source
        self.has_segments, self.notes = built.has_segments, built.notes
        if not special_in_text:
            self._tokenizer.encode_special_tokens = True  # as ordinary text
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.tokens = [""] * (max(ids.values(), default=-1) + 1)
        for token, number in ids.items():
            self.tokens[number] = token
        self._roles = {role: number for role, number in built.roles.items() if number is not None}

    def __len__(self) -> int:
        """One more than the largest id."""
        return len(self.tokens)

    @property
    def pad_id(self) -> int:
        return self._needed("pad")

    @property
    def unk_id(self) -> int:
        return self._needed("unk")

    @property
    def cls_id(self) -> int:
        return self._needed("cls")

    @property
    def sep_id(self) -> int:
        return self._needed("sep")

    @property
    def mask_id(self) -> int:
        return self._needed("mask")

    def special_id(self, role: str) -> Optional[int]:
        """Return the id of the token with a role: ``pad``, ``unk``, ``cls``, ``sep``, ``mask``, ``bos`` or ``eos``;
        ``None`` for none.
        """
        return self._roles.get(role)

    def _needed(self, role: str) -> int:
        if role not in self._roles:
            use = " for a masked word (mask_token), which pre-training needs" if role == "mask" else f" '{role}_token'"
            raise UsageError(f"{self._source} has no token{use}")
        return self._roles[role]

    def role_names(self) -> Dict[str, Optional[str]]:
        """The tokens with a role as tokenizer_config.json names them: ``pad_token`` and so on."""
        names = {f"{role}_token": self.tokens[number] for role, number in self._roles.items()}
        return {**dict.fromkeys(f"{role}_token" for role in ROLES), **names}

    @property
    def separators(self) -> int:
        """How many separators stand between two texts: RoBERTa's two, where the tokenizer puts them there, else one."""
        framed = self._tokenizer.encode("a", "a", add_special_tokens=True)
        between = [number for number, text in zip(framed.ids, framed.sequence_ids) if text is None][1:-1]
        return max(1, len(between)) if set(between) <= {self._roles.get("sep")} else 1

    @property
    def special_ids(self) -> List[int]:
        """The ids of tokens that stand for no text, ascending."""
        added = self._tokenizer.get_added_tokens_decoder()
        none = [number for number, token in enumerate(self.tokens) if not token]
        special = [number for number, token in added.items() if token.special]
        return sorted({*self._roles.values(), *none, *special})

    def encode(self, text: str) -> List[int]:
        """The ids of a text, without special tokens around it."""
        return self._encode(text).ids

    def encode_with_offsets(self, text: str) -> Tuple[List[int], List[Tuple[int, int]]]:
        """``encode``, and for each token the characters ``start <= i < end`` of ``text`` that it was made of."""
        encoding = self._encode(text)
        return encoding.ids, encoding.offsets

    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        """``encode`` of many texts at once."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, as the tokens spell it; special tokens are left out."""
        raise NotImplementedError("abstract")

    def to_json(self) -> str:
        """Return the content of a ``tokenizer.json``."""
        return self._tokenizer.to_str(pretty=True)

    def _encode(self, text: str) -> Any:
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        except TypeError:
            half = next((character for character in text if "\ud800" <= character <= "\udfff"), None)
            if half is None:
                raise
            raise UsageError(f"a text has half of a character ({half}), which is no text: {shown(text)}") from None


#: A text is encoded in pieces of about so many characters: an encoding takes a hundred times the text.
_PIECE = 1 << 16
# Where GPT-2's words may end: before white space that follows something else. What stands on the two sides is split in
# the same way whatever is on the other one.
_BREAK = re.compile(r"(?<=\S)(?=\s)")


class BPETokenizer(TextTokenizer):
    """Byte-level BPE, as GPT-2 and RoBERTa have it, or the BPE that a tokenizer.json describes."""

    def __init__(self, built: Built, source: str, special_in_text: bool = False) -> None:
        super().__init__(built, source, special_in_text)
        self._cuts = not special_in_text and _is_gpt2(built.engine)

    def encode(self, text: str) -> List[int]:
        """The ids of a text, without special tokens around it."""
        if not self._cuts or len(text) <= _PIECE:
            return super().encode(text)
        return [number for piece in _pieces(text) for number in super(BPETokenizer, self).encode(piece)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; special tokens are left out, and U+FFFD stands for bytes that are no UTF-8."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def _is_gpt2(engine: Tokenizer) -> bool:
    """Whether text is split at GPT-2's words and nothing else is done with it."""
    split = engine.pre_tokenizer
    plain = type(split).__name__ == "ByteLevel" and not split.add_prefix_space and split.use_regex
    return plain and engine.normalizer is None and all(token.special for token in _added(engine))


def _added(engine: Tokenizer) -> Any:
    return engine.get_added_tokens_decoder().values()


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        found = _BREAK.search(text, start + _PIECE)
        end = found.start() if found is not None else len(text)
        yield text[start:end]
        start = end
