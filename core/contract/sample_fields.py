"""Fields that a plugin adds to every batch, whatever the dataset: noise, a curriculum's weight, a sample's number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

from pipeloom.core.contract.dataset import Field


@dataclass(frozen=True)
class SampleField:
    """State a field that is computed for each batch instead of read.

    ``compute(seed, step, indices)`` gives the values of training, ``(N, *field.shape)``: ``seed`` is that of the run,
    ``step`` the number of the batch from 0, ``indices`` the samples of the whole global batch in their order, int64
    ``(N,)``. Every rank computes the whole and takes its share, so it must depend on nothing but its arguments.
    ``evaluate(indices)`` gives those of held-out samples, each by its index alone, since the size of these batches
    depends on the layout; ``None``: zeros. What is returned is held to ``field``.
    """

    field: Field
    compute: Callable[[int, int, np.ndarray], np.ndarray]
    evaluate: Optional[Callable[[np.ndarray], np.ndarray]] = None

    def held_out(self, indices: np.ndarray) -> np.ndarray:
        """Return the values of the held-out samples ``indices``."""
        if self.evaluate is None:
            return np.zeros((len(indices), *self.field.shape), self.field.dtype)
        return self.evaluate(indices)
