"""Packed tokens as samples of the task ``causal_lm``.

Shapes: N = samples, L = tokens of a sample.
"""

from __future__ import annotations

import hashlib
from typing import Dict, Sequence

import numpy as np

from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.plugins.libraries.tokens.packing import PackedSamples
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder


class NextTokens(Dataset):
    """The documents of a token folder, end to end with the token that ends a text after each, in samples of L tokens.

    A sample has its tokens and the one that follows each, so every token but the first is predicted once an epoch. Only
    the last sample is filled up, with end tokens that have no weight. ``crossing``: whether attention reaches back over
    the beginning of a document; where it does not, the first token of one is not predicted: nothing before it is seen.
    """

    task = "causal_lm"

    def __init__(self, folder: TokenFolder, seq_length: int, vocab_size: int, crossing: bool = True) -> None:
        self._folder, self._length, self._crossing = folder, seq_length, crossing
        self._samples = PackedSamples(folder, seq_length, overlap=1)
        self.vocab_size, self.vocabulary = vocab_size, folder.vocabulary
        shape = (seq_length,)
        fields = (
            Field("input_ids", shape, "int32", 0, vocab_size),
            Field("next_ids", shape, "int32", 0, vocab_size),
            Field("next_weights", shape, "float32"),
            # One more than the tokens: what fills the last sample up is of no document.
            Field("document_ids", shape, "int32", 0, seq_length + 1),
        )
        self.fields = {field.name: field for field in fields}

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        """The fields ``names``, each ``(N, L)``. Raises ``RunError`` where the tokens are damaged."""
        values = {name: np.zeros((len(indices), self._length), self.fields[name].dtype) for name in self.fields}
        end = self._samples.stream.separator
        for name in ("input_ids", "next_ids"):
            values[name][:] = end
        for row, index in enumerate(indices):
            ids, documents = self._samples.read(int(index))
            count = len(ids) - 1
            numbers = documents - documents[0]
            values["input_ids"][row, :count], values["next_ids"][row, :count] = ids[:-1], ids[1:]
            values["next_weights"][row, :count] = self._crossing or numbers[1:] == numbers[:-1]
            values["document_ids"][row, :count], values["document_ids"][row, count:] = numbers[:-1], numbers[-1] + 1
        return {name: values[name] for name in names}

    def describe(self) -> str:
        return f"{len(self):,} samples of {self._length} tokens: {self._folder.describe()}"

    def fingerprint(self) -> str:
        """That of the tokens and of how they are packed."""
        said = (super().fingerprint(), self._folder.fingerprint(), self._length, self._crossing)
        return hashlib.sha256(repr(said).encode()).hexdigest()
