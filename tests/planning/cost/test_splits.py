"""Splits by time: as good as the best of all splits, and no stage is empty."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.cost.splits import quickest_split


def slowest(seconds, split):
    ends = [sum(split[: number + 1]) for number in range(len(split))]
    return max(sum(seconds[end - count : end]) for end, count in zip(ends, split))


@given(st.lists(st.one_of(st.floats(0.01, 9), st.just(1.0)), min_size=1, max_size=9), st.data())
@settings(deadline=None, max_examples=200)
def test_the_slowest_stage_is_as_quick_as_in_any_split(seconds, data):
    stages = data.draw(st.integers(1, len(seconds)))
    split = quickest_split(seconds, stages)
    assert len(split) == stages and sum(split) == len(seconds) and min(split) >= 1
    cuts = combinations(range(1, len(seconds)), stages - 1)
    every = [[b - a for a, b in zip((0, *cut), (*cut, len(seconds)))] for cut in cuts]
    assert slowest(seconds, split) == pytest.approx(min(slowest(seconds, one) for one in every), rel=1e-6)


def test_a_hundred_blocks_and_stages_and_one_too_many():
    assert quickest_split([1.0] * 96, 96) == (1,) * 96
    assert quickest_split([1.0] * 96, 32) == (3,) * 32
    assert quickest_split([0.0, 1, 1, 1, 1, 2], 3) == (3, 2, 1)
    with pytest.raises(UsageError, match="2 blocks cannot be split into 3 stages"):
        quickest_split([1.0, 2.0], 3)
