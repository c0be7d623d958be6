"""The order of samples: a pure function of (seed, step), the same in every parallel layout."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.interleaving import Mixture

#: The longest pattern of a mixture, so the finest share: weights of up to four decimals are met exactly.
LONGEST_PATTERN = 10_000


def shares_of(weights: Sequence[float]) -> List[int]:
    """Whole numbers in the proportion of ``weights``, which are above 0: exactly where ``LONGEST_PATTERN`` places are
    enough, else as ``LONGEST_PATTERN``-ths of the whole, with the largest remainders rounded up. What is less than half
    of that is 0.
    """
    exact = [Fraction(repr(float(weight))) for weight in weights]  # 0.7 is seven tenths, as it was typed
    total = sum(exact)
    parts = [weight / total for weight in exact]
    length = _lcm([part.denominator for part in parts])
    if length <= LONGEST_PATTERN:
        return [int(part * length) for part in parts]
    shares = [int(part * LONGEST_PATTERN) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda source: shares[source] - parts[source] * LONGEST_PATTERN)
    for source in by_remainder[: LONGEST_PATTERN - sum(shares)]:
        shares[source] += 1
    divisor = reduce(math.gcd, shares)
    return [share // divisor for share in shares]


class SampleOrder:
    """Which samples make the global batch of a step.

    The samples form one endless stream: epoch after epoch, each a permutation of all samples. Step ``s``
    takes positions ``s * global_batch_size`` and on, across the border of an epoch where it comes to that,
    so no sample is dropped and the stream is the same for every batch size. Nothing depends on ranks or on
    what was asked before: a run that resumes at step 1000 gets the batches an uninterrupted one gets.

    With a ``mixture`` each source has such a stream, with epochs of its own, and at each place of the whole the mixture
    says whose next sample stands there.
    """

    def __init__(
        self, num_samples: int, global_batch_size: int, seed: int, shuffle: bool, mixture: Optional[Mixture] = None
    ) -> None:
        if num_samples < 1:
            raise UsageError("the dataset has no samples; give one that has some")
        if global_batch_size < 1:
            raise UsageError(f"the global batch has {global_batch_size} samples; it needs at least 1")
        self.num_samples = num_samples
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.mixture = mixture
        sizes = (num_samples,) if mixture is None else mixture.sizes
        self._streams = [_Stream(size, seed, number, shuffle) for number, size in enumerate(sizes)]

    def indices(self, step: int) -> np.ndarray:
        """The samples of the global batch of ``step`` (from 0): int64 ``(global_batch_size,)``."""
        batch = np.empty(self.global_batch_size, dtype=np.int64)
        offset = 0
        for stream, rows, first, end in self._parts(step):
            batch[rows] = offset + stream.between(first, end)
            offset += stream.num_samples
        return batch

    def epochs(self, step: int) -> np.ndarray:
        """Which pass over its source each sample of that batch is of, from 0: int64 ``(global_batch_size,)``."""
        batch = np.empty(self.global_batch_size, dtype=np.int64)
        for stream, rows, first, end in self._parts(step):
            batch[rows] = np.arange(first, end) // stream.num_samples
        return batch

    def _parts(self, step: int) -> Iterator[Tuple[_Stream, Any, int, int]]:
        """Of each stream the places ``first`` to ``end`` (without) that are in the batch of ``step``, and the rows of
        the batch where they stand."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        first, end = step * self.global_batch_size, (step + 1) * self.global_batch_size
        if self.mixture is None:
            yield self._streams[0], slice(None), first, end
            return
        sources = self.mixture.sources(first, end)
        for source, stream in enumerate(self._streams):
            yield stream, sources == source, self.mixture.count(source, first), self.mixture.count(source, end)


class _Stream:
    """The samples of one source, epoch after epoch. Sources with other numbers have other permutations."""

    def __init__(self, num_samples: int, seed: int, source: int, shuffle: bool) -> None:
        self.num_samples, self._seed, self._source, self._shuffle = num_samples, seed, source, shuffle
        self._permutations: Dict[int, np.ndarray] = {}

    def between(self, first: int, end: int) -> np.ndarray:
        """The samples at the places ``first`` to ``end`` (without): int64 ``(end - first,)``."""
        samples = np.empty(end - first, dtype=np.int64)
        filled = 0
        while filled < len(samples):
            epoch, start = divmod(first + filled, self.num_samples)
            run = min(self.num_samples - start, len(samples) - filled)
            samples[filled : filled + run] = self._epoch(epoch)[start : start + run]
            filled += run
        return samples

    def _epoch(self, epoch: int) -> np.ndarray:
        """The order of the samples in one epoch: int64 ``(num_samples,)``. The last two asked for are kept."""
        if epoch not in self._permutations:
            if len(self._permutations) > 1:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[epoch] = self._permute(epoch) if self._shuffle else np.arange(self.num_samples)
        return self._permutations[epoch]

    def _permute(self, epoch: int) -> np.ndarray:
        # Philox is a counter-based generator (Salmon et al., SC 2011): each key is a stream of its own, and so is each
        # highest word of the counter. Sorting its raw words, and not Generator.permutation: numpy keeps the words of a
        # bit generator the same between versions, what it makes of them may change (NEP 19).
        key = np.array([self._seed % 2**64, epoch], dtype=np.uint64)
        words = np.random.Philox(key=key, counter=np.array([0, 0, 0, self._source], dtype=np.uint64))
        return np.argsort(words.random_raw(self.num_samples), kind="stable")


def _lcm(numbers: Sequence[int]) -> int:
    return reduce(
        lambda multiple, number: multiple * number // math.gcd(multiple, number), numbers, 1
    )  # math.lcm is of Python 3.9
