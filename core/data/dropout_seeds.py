"""What keys the dropout masks of a batch, from a generator that knows nothing about ranks (law 1)."""

from __future__ import annotations

import numpy as np

#: The second word of the key of a counter-based generator keeps its streams apart.
_DROPOUT_STREAM = 0xD509


def dropout_seeds(seed: int, step: int, global_batch_size: int) -> np.ndarray:
    """Return ``int32 (global_batch_size, 2)``: what keys the dropout masks of each sample of a step.

    Depends on the sample's position in the global batch, not on the rank or micro-batch it falls to.
    """
    bits = np.random.Philox(key=[seed, _DROPOUT_STREAM], counter=[0, 0, 0, step])
    generator = np.random.Generator(bits)
    return generator.integers(-(2**31), 2**31, size=(global_batch_size, 2), dtype=np.int64).astype(np.int32)
