"""Dataset plugin: running text packed into samples with masked words, as RoBERTa is pre-trained: masked anew in each
epoch.
"""

from __future__ import annotations

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.tokens.text_options import add_text_options

#: RoBERTa's share of masked tokens (Liu et al. 2019), BERT's too.
_PROBABILITY = 0.15


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_text_options(options)
    options.add(
        "mlm_probability",
        float,
        default=_PROBABILITY,
        section="data",
        minimum=0.001,
        maximum=1,
        help="share of the tokens that are masked: of these 8 in 10 become the mask, 1 another token, 1 stays",
    )
    options.add(
        "max_predictions",
        int,
        default=None,
        section="data",
        minimum=1,
        help="masked tokens that a sample has room for (default: as many as --mlm_probability may choose)",
    )


@pipeloom.hookimpl
def pipeloom_default_options(config):
    from pipeloom.plugins.datasets.wiki_text.masking import FRAME, most_predictions

    return {"max_predictions": max(1, most_predictions(config.mlm_probability, config.seq_length - FRAME))}


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.core.data.mixture import MixedDataset
    from pipeloom.plugins.datasets.wiki_text.masked_text import MaskedText
    from pipeloom.plugins.datasets.wiki_text.masking import FRAME
    from pipeloom.plugins.libraries.tokens.text_options import held_out_folder, training_folders, vocab_size

    if split not in ("train", "eval"):
        raise UsageError(f"wiki_text has no split '{split}'; it has 'train' and 'eval'")
    if config.seq_length <= FRAME:
        raise UsageError(f"--seq_length {config.seq_length} has no room for text; it needs at least {FRAME + 1}")
    folders = training_folders(config)
    size = vocab_size(config, folders[0][0])

    def masked(folder, source=0):
        return MaskedText(
            folder, config.seq_length, config.max_predictions, config.mlm_probability, config.seed, size, source
        )

    if split == "eval":
        return masked(held_out_folder(config, folders[0][0]))
    datasets = [masked(folder, number) for number, (folder, _) in enumerate(folders)]
    weights = [weight for _, weight in folders if weight is not None]  # all have one, or none has
    training = datasets[0] if len(datasets) == 1 else MixedDataset(datasets, weights or None)
    training.held_out = config.eval_path is not None
    return training
