"""Packed text as samples with masked words, masked anew each time that training comes to them."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Sequence

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.plugins.datasets.wiki_text.masking import FRAME, Masker, MaskingRule
from pipeloom.plugins.libraries.tokens.packing import PackedSamples
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder

_FIRST_EPOCH = 0


class MaskedText(Dataset):
    """The documents of a token folder end to end, in samples of ``seq_length`` tokens, of which some are masked.

    RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2): ``<s> tokens </s>``, which go on over the ends of
    documents, with ``</s>`` between two of them; BERT's [CLS] and [SEP] in their places. ``read_epochs`` masks each
    sample otherwise in each epoch; ``read``, by which held-out sets are read, always as in the first. Raises
    ``UsageError`` where the folder has no tokenizer with the tokens that are needed, or not one sample.
    """

    task = "masked_lm"

    def __init__(
        self,
        folder: TokenFolder,
        seq_length: int,
        max_predictions: int,
        probability: float,
        seed: int,
        vocab_size: int,
        source: int = 0,
    ) -> None:
        self._folder, self._length = folder, seq_length
        self.vocabulary, self.vocab_size = folder.vocabulary, vocab_size
        words: Any = self._tokenizer()
        self._cls, self._sep, self._pad = words.cls_id, words.sep_id, words.pad_id
        special = tuple(words.special_ids)
        self._rule = MaskingRule(probability, max_predictions, words.mask_id, special, folder.vocab_size, seed)
        self._masker = Masker(self._rule, source)
        self._samples = PackedSamples(folder, seq_length - FRAME, separator=self._sep)
        fields = (
            Field("input_ids", (seq_length,), "int32", 0, vocab_size),
            Field("input_mask", (seq_length,), "int32", 0, 2),
            Field("segment_ids", (seq_length,), "int32", 0, 1),
            Field("masked_lm_positions", (max_predictions,), "int32", 0, seq_length),
            Field("masked_lm_ids", (max_predictions,), "int32", 0, vocab_size),
            Field("masked_lm_weights", (max_predictions,), "float32"),
        )
        self.fields = {field.name: field for field in fields}

    def _tokenizer(self) -> Any:
        if self.vocabulary is None:
            raise UsageError(
                f"{self._folder.path} has no tokenizer files, which say what the mask is: make it with 'prepare tokens'"
            )
        return self.vocabulary.load()

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self.read_epochs(indices, [_FIRST_EPOCH] * len(indices), names)

    def read_epochs(self, indices: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        values = {
            name: np.full((len(indices), *field.shape), self._pad if name == "input_ids" else 0, field.dtype)
            for name, field in self.fields.items()
        }
        for row, (index, epoch) in enumerate(zip(indices, epochs)):
            ids = self._ids(int(index))
            masked, places = self._masker.mask(ids, int(epoch), int(index))
            values["input_ids"][row, : len(ids)] = masked
            values["input_mask"][row, : len(ids)] = 1
            values["masked_lm_positions"][row, : len(places)] = places
            values["masked_lm_ids"][row, : len(places)] = ids[places]
            values["masked_lm_weights"][row, : len(places)] = 1.0
        return {name: values[name] for name in names}

    def _ids(self, index: int) -> np.ndarray:
        """A sample before masking: int32, up to ``seq_length`` tokens."""
        text = self._samples.read(index).ids
        end = [] if text[-1] == self._sep else [self._sep]  # that of a document is the end of the sample too
        return np.concatenate([[self._cls], text, end]).astype(np.int32)

    def describe(self) -> str:
        return f"{len(self)} samples of {self._length} tokens from {self._folder.describe()}"

    def fingerprint(self) -> str:
        rule = self._rule
        masking = (rule.probability, rule.most, rule.mask_id, rule.special_ids, self._cls, self._sep, self._pad)
        parts = (super().fingerprint(), self._folder.fingerprint(), masking)
        return hashlib.sha256(repr(parts).encode()).hexdigest()
