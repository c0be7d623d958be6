"""A plugin: samples of a causal language model in memory, for tests. Each token is one of few that may follow it."""

from __future__ import annotations

import numpy as np

import pipeloom
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.plugins.tasks import causal_lm_head

VOCABULARY = 211
# A model is small enough here for all of its logits; in pieces they are what the tests are about.
causal_lm_head._MOST_LOGITS = 2**14


class TokenStream(Dataset):
    """Two or three documents in each sample; the last token of each has nothing to predict."""

    task, vocab_size = "causal_lm", VOCABULARY

    def __init__(self, count, length, seed):
        rng = np.random.default_rng(seed)
        steps = rng.integers(1, 4, (count, length + 1))
        tokens = (np.cumsum(steps, axis=1) + rng.integers(0, VOCABULARY, (count, 1))) % VOCABULARY
        ends = np.sort(rng.integers(1, length, (count, 2)), axis=1)
        documents = (np.arange(length)[None] >= ends[:, :1]).astype(int) + (np.arange(length)[None] >= ends[:, 1:])
        weights = np.ones((count, length))
        for row, stops in zip(weights, ends):
            row[stops - 1] = 0.0
        self.values = {
            "input_ids": tokens[:, :-1],
            "next_ids": tokens[:, 1:],
            "next_weights": weights,
            "document_ids": documents,
        }
        self.fields = {
            "input_ids": Field("input_ids", (length,), "int32", 0, VOCABULARY),
            "next_ids": Field("next_ids", (length,), "int32", 0, VOCABULARY),
            "next_weights": Field("next_weights", (length,), "float32"),
            "document_ids": Field("document_ids", (length,), "int32", 0, length),
        }

    def __len__(self):
        return len(self.values["input_ids"])

    def read(self, indices, names):
        return {name: self.values[name][list(indices)].astype(self.fields[name].dtype) for name in names}

    def describe(self):
        return "a token stream"


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return TokenStream(*((64, config.seq_length, 1) if split == "train" else (10, config.seq_length, 2)))
