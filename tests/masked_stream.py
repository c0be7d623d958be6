"""A plugin: samples of pre-training in memory, for tests; nothing is built or read."""

from __future__ import annotations

import numpy as np

import pipeloom
from pipeloom.core.contract.dataset import Dataset, Field

VOCABULARY = 97


class MaskedStream(Dataset):
    """Tokens that count on, some of them masked."""

    task, vocab_size = "pretraining", VOCABULARY

    def __init__(self, count, length, predictions, seed):
        rng = np.random.default_rng(seed)
        tokens = (np.arange(length)[None] + rng.integers(0, VOCABULARY, (count, 1))) % VOCABULARY
        positions = np.sort(rng.permuted(np.tile(np.arange(length), (count, 1)), axis=1)[:, :predictions], axis=1)
        self.values = {
            "input_ids": tokens,
            "input_mask": np.ones((count, length)),
            "segment_ids": np.zeros((count, length)),
            "masked_lm_positions": positions,
            "masked_lm_ids": np.take_along_axis(tokens, positions, axis=1),
            "masked_lm_weights": rng.integers(0, 2, (count, predictions)),
            "next_sentence_labels": rng.integers(0, 2, (count, 1)),
        }
        highs = {"input_mask": 2, "segment_ids": 2, "masked_lm_positions": length, "next_sentence_labels": 2}
        self.fields = {
            name: Field(name, value.shape[1:], "int32", 0, highs.get(name, VOCABULARY))
            for name, value in self.values.items()
        }
        self.fields["masked_lm_weights"] = Field("masked_lm_weights", (predictions,), "float32")

    def __len__(self):
        return len(self.values["input_ids"])

    def read(self, indices, names):
        return {name: self.values[name][list(indices)].astype(self.fields[name].dtype) for name in names}

    def describe(self):
        return f"{len(self)} made-up samples"


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("max_predictions", int, 5, section="data", minimum=1, help="masked tokens of a sample")


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return MaskedStream(40 if split == "train" else 10, config.seq_length, config.max_predictions, split == "train")
