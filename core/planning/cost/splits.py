"""Splits of a row of blocks into stages by time, quickly: for rows of a hundred blocks and as many stages."""

from __future__ import annotations

from itertools import accumulate
from typing import List, Sequence, Tuple

from pipeloom.core.base.errors import UsageError


def quickest_split(seconds: Sequence[float], stages: int) -> Tuple[int, ...]:
    """Return how many neighbouring blocks each stage gets, so that the slowest stage is as quick as can be.

    Exact: the least bound that a greedy filling keeps is found among the sums of neighbouring blocks (Pinar & Aykanat
    2004). No stage is left empty. Within the bound each stage, from the last, takes about an even share of
    what is left.
    Raises ``UsageError`` where there are more stages than blocks.
    """
    count = len(seconds)
    if stages > count:
        raise UsageError(f"{count} blocks cannot be split into {stages} stages, each with one at the least")
    prefix = [0.0, *accumulate(seconds)]
    low, high = max(max(seconds), prefix[-1] / stages), prefix[-1]
    if _fits(seconds, stages, low * (1 + 1e-12)):
        high = low * (1 + 1e-12)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if _fits(seconds, stages, middle):
            high = middle
        else:
            low = middle
    return _fill(seconds, stages, high)


def _fits(seconds: Sequence[float], stages: int, bound: float) -> bool:
    needed, here = 1, 0.0
    for one in seconds:
        if here + one > bound and here:
            needed, here = needed + 1, 0.0
        here += one
        if needed > stages:
            return False
    return True


def _fill(seconds: Sequence[float], stages: int, bound: float) -> Tuple[int, ...]:
    """From the end: each stage takes blocks until it is nearest to an even share of what is left, within the bound."""
    counts: List[int] = []
    left, total = len(seconds), sum(seconds)
    for stage in range(stages, 0, -1):
        share, taken, here = total / stage, 0, 0.0
        while left - taken > stage - 1:
            one = seconds[left - taken - 1]
            over = here + one > bound * (1 + 1e-12)
            enough = here and here + one - share > share - here and _rest_fits(seconds, left - taken, stage - 1, bound)
            if stage > 1 and (over or enough):
                break
            taken, here = taken + 1, here + one
        counts.append(taken)
        left, total = left - taken, total - here
    return tuple(reversed(counts))


def _rest_fits(seconds: Sequence[float], count: int, stages: int, bound: float) -> bool:
    return stages > 0 and _fits(seconds[:count], stages, bound * (1 + 1e-12))
