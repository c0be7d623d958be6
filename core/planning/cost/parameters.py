"""Parameters of each block on a rank by how they are spread: what is exchanged, updated and gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from pipeloom.core.contract.blocks import Block, shard_dim, splits_vocabulary


@dataclass(frozen=True)
class Spread:
    """State numbers of parameters of a rank, for all blocks before each position: ``[blocks + 1]``, summed up.

    ``exchanged``: whose gradients are all-reduced once a step; ``gathered``: which come and go with every micro-batch
    (``--shard parameters``); ``updated``: which a rank updates. ``words``: which blocks compute with a share of the
    vocabulary (``--shard vocabulary``), ``[blocks]``.
    """

    exchanged: np.ndarray
    gathered: np.ndarray
    updated: np.ndarray
    words: np.ndarray


def spread(blocks: Sequence[Block], shard: str, data: int, tensor: int) -> Spread:
    """Return how ``--shard`` spreads the parameters of ``blocks`` over ``data`` x ``tensor`` ranks."""
    rows, words, known = [], [], {}
    for block in blocks:
        exchanged = gathered = updated = 0.0
        has_words = False
        key = tuple((spec.shape, spec.tensor_dim, spec.vocabulary) for spec in block.parameters)
        if key not in known:
            for spec in block.parameters:
                size = spec.size / (tensor if spec.tensor_dim is not None else 1)
                if splits_vocabulary(spec, shard, data, tensor):
                    updated, has_words = updated + size / data, True
                    continue
                is_spread = shard in ("optimizer", "parameters") and shard_dim(spec, data, tensor) is not None
                updated += size / data if is_spread else size
                if shard == "parameters" and is_spread:
                    gathered += size
                else:
                    exchanged += size
            known[key] = (exchanged, gathered, updated), has_words
        row, has_words = known[key]
        rows.append(row)
        words.append(has_words)
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(np.array(rows), axis=0)])
    return Spread(sums[:, 0], sums[:, 1], sums[:, 2], np.array(words))
