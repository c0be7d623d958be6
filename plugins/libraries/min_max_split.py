"""Splitting a row of blocks into stages: the exact split whose largest stage is smallest."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from pipeloom.core.base.errors import UsageError


def min_max_split(weights: Sequence[float], num_stages: int) -> List[int]:
    """Return how many neighbouring blocks each stage gets, so that the heaviest stage is as light as possible.

    Among the splits with that maximum, the one with the smallest sum of squared stage weights (the most
    even), then the one that gives earlier stages more blocks. Exact, by dynamic programming over
    (stages, blocks): O(num_stages x blocks^2).

    Raises ``UsageError`` when there are more stages than blocks.
    """
    count = len(weights)
    if num_stages > count:
        raise UsageError(
            f"--nums_split {num_stages}: the model has only {count} blocks to split, "
            f"so at most {count} stages; add layers or lower --nums_split"
        )
    prefix: List[float] = [0]
    for weight in weights:
        prefix.append(prefix[-1] + weight)

    # best[j] for s stages over the first j blocks: (largest stage, sum of squares, negative counts)
    best: Dict[int, Tuple[float, float, Tuple[int, ...]]] = {0: (0, 0, ())}
    for stage in range(1, num_stages + 1):
        following: Dict[int, Tuple[float, float, Tuple[int, ...]]] = {}
        for end in range(stage, count - (num_stages - stage) + 1):
            candidates = []
            for start, (largest, squares, counts) in best.items():
                if start < end:
                    here = prefix[end] - prefix[start]
                    candidates.append((max(largest, here), squares + here * here, counts + (start - end,)))
            following[end] = min(candidates)
        best = following
    # The min-max split is found first; a second pass with that bound makes the tie-break exact, since the
    # most even split under the bound need not have a prefix of the smallest maximum.
    return _most_even(prefix, num_stages, best[count][0])


def _most_even(prefix: Sequence[float], num_stages: int, bound: float) -> List[int]:
    count = len(prefix) - 1
    best: Dict[int, Tuple[float, Tuple[int, ...]]] = {0: (0, ())}
    for stage in range(1, num_stages + 1):
        following: Dict[int, Tuple[float, Tuple[int, ...]]] = {}
        for end in range(stage, count - (num_stages - stage) + 1):
            candidates = []
            for start, (squares, counts) in best.items():
                if start < end and prefix[end] - prefix[start] <= bound:
                    here = prefix[end] - prefix[start]
                    candidates.append((squares + here * here, counts + (start - end,)))
            if candidates:
                following[end] = min(candidates)
        best = following
    return [-negative for negative in best[count][1]]
