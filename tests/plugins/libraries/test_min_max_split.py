"""The split of blocks into stages, against brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.report import imbalance
from pipeloom.plugins.libraries.min_max_split import min_max_split
from pipeloom.plugins.strategies import by_parameters

pytestmark = pytest.mark.fast


def every_split(count, stages):
    for cuts in combinations(range(1, count), stages - 1):
        yield [b - a for a, b in zip((0, *cuts), (*cuts, count))]


def stage_weights(weights, split):
    sums, start = [], 0
    for count in split:
        sums.append(sum(weights[start : start + count]))
        start += count
    return sums


@st.composite
def weights_and_stages(draw):
    # Small weights make ties, large ones do not.
    weights = draw(st.lists(st.one_of(st.integers(0, 4), st.integers(0, 10**9)), min_size=1, max_size=9))
    return weights, draw(st.integers(1, min(5, len(weights))))


@settings(max_examples=200, deadline=None)
@given(weights_and_stages())
def test_the_largest_stage_is_smallest_and_ties_go_to_the_most_even(case):
    weights, stages = case

    def rank(split):
        sums = stage_weights(weights, split)
        return max(sums), sum(value * value for value in sums), [-count for count in split]

    split = min_max_split(weights, stages)
    assert len(split) == stages and sum(split) == len(weights) and min(split) >= 1
    assert split == min(every_split(len(weights), stages), key=rank)


@pytest.mark.parametrize(
    "weights, stages, split",
    [
        ([1, 1, 1, 1], 2, [2, 2]),
        ([1, 1, 1], 2, [2, 1]),
        ([9, 1, 1, 1], 2, [1, 3]),
        ([5], 1, [1]),
        # Of the most even split, the part before the last stage is not the best split of its own.
        ([1, 4, 2, 2, 5], 4, [2, 1, 1, 1]),
        ([0, 0, 0], 3, [1, 1, 1]),
        ([0.5, 0.25, 0.25], 2, [1, 2]),
    ],
)
def test_examples(weights, stages, split):
    assert min_max_split(weights, stages) == split


def test_more_stages_than_blocks():
    with pytest.raises(UsageError) as raised:
        min_max_split([1, 2, 3], 4)
    assert str(raised.value) == (
        "--nums_split 4: the model has only 3 blocks to split, so at most 3 stages; add layers or lower --nums_split"
    )


def test_a_deep_model_is_split_quickly():
    assert min_max_split([1] * 100, 25) == [4] * 25


def test_imbalance_is_the_excess_of_the_heaviest_stage():
    assert imbalance([2, 2]) == 0.0 and imbalance([3, 1]) == pytest.approx(0.5)


def test_the_default_partitioner_weighs_by_parameters():
    class B:
        def __init__(self, size):
            self.size = size

    blocks = [B(7), B(1), B(1), B(1)]
    assert by_parameters.pipeloom_partition(blocks=blocks, num_stages=2, config=None) == [1, 3]
