"""How training takes turns between several sources of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Sequence, Tuple

import numpy as np


@dataclass(frozen=True)
class Mixture:
    """Several sources in one stream. ``sizes``: the numbers of samples of the sources, which lie one behind the other
    in the dataset; ``shares``: source ``k`` gives ``shares[k]`` of every ``sum(shares)`` samples of the stream.

    The stream is one pattern of ``sum(shares)`` places again and again, by R. Tijdeman's rule ("The chairman assignment
    problem", Discrete Mathematics 32, 1980): of the sources that are behind by ``1 / (2K - 2)`` samples or more, the
    one that would first be too far behind. Among the first ``n`` places, for every ``n``, a source then has its share
    of ``n`` to within ``1 - 1 / (2K - 2)``.
    """

    sizes: Tuple[int, ...]
    shares: Tuple[int, ...]

    @cached_property
    def pattern(self) -> np.ndarray:
        """The source at each place of the pattern: int64 ``(sum(shares),)``."""
        length, slack = sum(self.shares), max(1, 2 * len(self.shares) - 2)
        # In whole numbers: how far a source is behind, in units of 1 / (length * slack); the time until it is too far,
        # in those of 1 / common.
        common = _lcm(self.shares)
        paces = [common // share for share in self.shares]
        behind = [0] * len(self.shares)
        pattern = []
        for _ in range(length):
            behind = [lag + slack * share for lag, share in zip(behind, self.shares)]
            chosen = min(
                (((slack - 1) * length - lag) * pace, source)
                for source, (lag, pace) in enumerate(zip(behind, paces))
                if lag >= length
            )[1]
            behind[chosen] -= slack * length
            pattern.append(chosen)
        return np.array(pattern)

    @cached_property
    def _before(self) -> np.ndarray:
        """How many places before each one are of each source: int64 ``(sum(shares) + 1, sources)``."""
        here = self.pattern[:, None] == np.arange(len(self.shares))
        return np.concatenate([np.zeros((1, len(self.shares)), np.int64), np.cumsum(here, axis=0)])

    def sources(self, first: int, end: int) -> np.ndarray:
        """The source at each of the places ``first`` to ``end`` (without) of the stream: int64 ``(end - first,)``."""
        return self.pattern[np.arange(first, end) % len(self.pattern)]

    def count(self, source: int, end: int) -> int:
        """How many of the first ``end`` places are of ``source``."""
        rounds, rest = divmod(end, len(self.pattern))
        return rounds * self.shares[source] + int(self._before[rest, source])


def _lcm(numbers: Sequence[int]) -> int:
    return reduce(
        lambda multiple, number: multiple * number // math.gcd(multiple, number), numbers, 1
    )  # math.lcm is of Python 3.9
