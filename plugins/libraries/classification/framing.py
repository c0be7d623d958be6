"""From tokens of one or two texts to what a model reads: ``[CLS] a [SEP]`` or ``[CLS] a [SEP] b [SEP]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.dataset import Field

#: Tokens of an input where nobody says, as BERT was fine-tuned on GLUE.
SEQ_LENGTH = 128
#: The fields of an input.
FIELDS = ("input_ids", "input_mask", "segment_ids")


def input_fields(seq_length: int, vocab_size: int) -> Dict[str, Field]:
    """Return the fields of inputs of ``seq_length`` tokens."""
    high = {"input_ids": vocab_size, "input_mask": 2, "segment_ids": 2}
    return {name: Field(name, (seq_length,), "int32", 0, high[name]) for name in FIELDS}


@dataclass(frozen=True)
class Frame:
    """The tokens around texts. ``between``: how many separators stand between two of them (RoBERTa has two);
    ``segments``: whether tokens of the second one are of another segment.
    """

    cls: int
    sep: int
    pad: int
    between: int = 1
    segments: bool = True

    @classmethod
    def of(cls, tokenizer: Any) -> Frame:
        """Return that of a tokenizer; of byte-level BPE it is RoBERTa's."""
        from pipeloom.plugins.libraries.text.text_tokenizer import BPETokenizer

        between = 2 if isinstance(tokenizer, BPETokenizer) else 1
        return cls(tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, between, tokenizer.has_segments)

    def size(self, is_pair: bool) -> int:
        """Return how many tokens of an input are not text."""
        return 2 + self.between if is_pair else 2

    def inputs(self, first: np.ndarray, second: Optional[np.ndarray], length: int) -> Tuple[np.ndarray, int, int]:
        """Return ids ``(length,)``, how many of them are no padding, and where the second segment begins."""
        room = length - self.size(second is not None)
        sizes = cut(len(first), 0 if second is None else len(second), room)
        parts: Sequence[Any] = ([self.cls], first[: sizes[0]], [self.sep])
        begin = sizes[0] + 1 + self.between
        if second is not None:
            parts = (*parts, [self.sep] * (self.between - 1), second[: sizes[1]], [self.sep])
        ids = np.full(length, self.pad, np.int32)
        used = sizes[0] + sizes[1] + self.size(second is not None)
        ids[:used] = np.concatenate(parts)
        return ids, used, begin if second is not None and self.segments else used


def cut(first: int, second: int, room: int) -> Tuple[int, int]:
    """Return how many tokens of two texts are kept in ``room``: the longer one is cut, both to halves where it must be.

    As ``longest_first`` of HuggingFace's tokenizers (utils/truncation.rs).
    """
    if first + second <= room:
        return first, second
    short = min(first, second)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (long, short) if first > second else (short, long)


def stack(frame: Frame, texts: Sequence[Tuple[np.ndarray, Optional[np.ndarray]]], length: int) -> Dict[str, np.ndarray]:
    """Return the fields of inputs of ``length`` tokens, int32 ``(texts, length)``."""
    ids = np.empty((len(texts), length), np.int32)
    used, begins = np.empty((2, len(texts), 1), np.int64)
    for row, (first, second) in enumerate(texts):
        ids[row], used[row], begins[row] = frame.inputs(first, second, length)
    places = np.arange(length)
    mask = places < used
    return {
        "input_ids": ids,
        "input_mask": mask.astype(np.int32),
        "segment_ids": (mask & (places >= begins)).astype(np.int32),
    }
