"""The order of samples: a pure function of (seed, step), the same in every parallel layout."""
from __future__ import annotations

from typing import Dict

import numpy as np

from pipeloom.core.errors import UsageError


def steps_per_epoch(num_samples: int, global_batch_size: int) -> int:
    """Steps until every sample was used at least once (rounded up: the last one begins the next epoch)."""
    return -(-num_samples // global_batch_size)


class SampleOrder:
    """Which samples make the global batch of a step.

    The samples form one endless stream: epoch after epoch, each a permutation of all samples. Step ``s``
    takes positions ``s * global_batch_size`` and on, across the border of an epoch where it comes to that,
    so no sample is dropped and the stream is the same for every batch size. Nothing depends on ranks or on
    what was asked before: a run that resumes at step 1000 gets the batches an uninterrupted one gets.
    """

    def __init__(self, num_samples: int, global_batch_size: int, seed: int, shuffle: bool) -> None:
        if num_samples < 1:
            raise UsageError("the dataset has no samples; give one that has some")
        if global_batch_size < 1:
            raise UsageError(f"the global batch has {global_batch_size} samples; it needs at least 1")
        self.num_samples = num_samples
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.shuffle = shuffle
        self._permutations: Dict[int, np.ndarray] = {}

    def indices(self, step: int) -> np.ndarray:
        """The samples of the global batch of ``step`` (from 0): int64 ``(global_batch_size,)``."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        first = step * self.global_batch_size
        batch = np.empty(self.global_batch_size, dtype=np.int64)
        filled = 0
        while filled < self.global_batch_size:
            epoch, start = divmod(first + filled, self.num_samples)
            run = min(self.num_samples - start, self.global_batch_size - filled)
            batch[filled : filled + run] = self._epoch(epoch)[start : start + run]
            filled += run
        return batch

    def _epoch(self, epoch: int) -> np.ndarray:
        """The order of the samples in one epoch: int64 ``(num_samples,)``. The last two asked for are kept."""
        if epoch not in self._permutations:
            if len(self._permutations) > 1:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[epoch] = self._permute(epoch) if self.shuffle else np.arange(self.num_samples)
        return self._permutations[epoch]

    def _permute(self, epoch: int) -> np.ndarray:
        # Philox is a counter-based generator (Salmon et al., SC 2011): each key is a stream of its own.
        # Sorting its raw words, and not Generator.permutation: numpy keeps the words of a bit generator the
        # same between versions, what it makes of them may change (NEP 19).
        key = np.array([self.seed % 2**64, epoch], dtype=np.uint64)
        return np.argsort(np.random.Philox(key=key).random_raw(self.num_samples), kind="stable")
