"""Dataset plugin: running text for causal language models, packed into samples of a fixed length."""

from __future__ import annotations

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.tokens.text_options import add_text_options


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_text_options(options)


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.core.data.mixture import MixedDataset
    from pipeloom.plugins.datasets.text.next_tokens import NextTokens
    from pipeloom.plugins.libraries.tokens.text_options import held_out_folder, training_folders, vocab_size

    if split not in ("train", "eval"):
        raise UsageError(f"text has no split '{split}'; it has 'train' and 'eval'")
    folders = training_folders(config)
    size = vocab_size(config, folders[0][0])
    crossing = getattr(config, "attend_across_documents", True)  # of the model
    if split == "eval":
        return NextTokens(held_out_folder(config, folders[0][0]), config.seq_length, size, crossing)
    datasets = [NextTokens(folder, config.seq_length, size, crossing) for folder, _ in folders]
    weights = [weight for _, weight in folders if weight is not None]  # all have one, or none has
    training = datasets[0] if len(datasets) == 1 else MixedDataset(datasets, weights or None)
    training.held_out = config.eval_path is not None
    return training
