"""The fields of the public wiki_ofrecord sets of 128 tokens, and the dataset plugin without a run."""

from __future__ import annotations

from types import SimpleNamespace

from pipeloom.plugins.datasets import wiki_ofrecord

FIELDS = {
    "input_ids": ((128,), "int32"),
    "input_mask": ((128,), "int32"),
    "segment_ids": ((128,), "int32"),
    "masked_lm_positions": ((20,), "int32"),
    "masked_lm_ids": ((20,), "int32"),
    "masked_lm_weights": ((20,), "float32"),
    "next_sentence_labels": ((1,), "int32"),
}


def open_dataset(split="train", **changes):
    config = dict(
        seq_length=128, vocab_size=None, ofrecord_path=None, max_predictions=20, eval_path=None, eval_every=None
    )
    return wiki_ofrecord.pipeloom_open_dataset(config=SimpleNamespace(**{**config, **changes}), split=split)
