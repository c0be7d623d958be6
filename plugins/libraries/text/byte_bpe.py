"""Byte-level BPE, as GPT-2 and RoBERTa have it: training a vocabulary, and its two files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Dict, Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeloom.core.base.errors import UsageError

#: RoBERTa's, and GPT-2's only one: whoever uses the vocabulary takes what it knows. They have the ids 0 to 5.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")

VOCAB, MERGES = "vocab.json", "merges.txt"


def train_byte_bpe(texts: Iterable[str], vocab_size: int, min_frequency: int = 2) -> Tokenizer:
    """A tokenizer of at most ``vocab_size`` tokens: the special ones, the 256 bytes, then merges by their frequency in
    ``texts``.

    The same texts give the same one: the bytes are numbered in the order of their characters, ties between pairs are
    broken by these numbers, and no token is numbered in the order of a hash table, as the continuing pieces of
    WordPiece are. Raises ``UsageError`` where ``vocab_size`` does not hold the bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(SPECIAL_TOKENS) + len(alphabet)
    if vocab_size < least:
        raise UsageError(
            f"a vocabulary of {vocab_size} tokens is too small for the {len(alphabet)} bytes and {len(SPECIAL_TOKENS)} "
            f"special tokens: "
            f"give at least {least}"
        )
    tokenizer = _pipeline(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def files_of(tokenizer: Tokenizer) -> Dict[str, bytes]:
    """The contents of ``vocab.json`` and ``merges.txt``."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.model.save(folder)
        return {name: (Path(folder) / name).read_bytes() for name in (VOCAB, MERGES)}


def _pipeline(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
