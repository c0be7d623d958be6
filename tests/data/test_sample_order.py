"""The order of samples: permutations by epoch, one stream for every batch size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.interleaving import Mixture
from pipeloom.core.data.order import SampleOrder

pytestmark = pytest.mark.fast


def stream(num_samples, batch, seed, length, shuffle=True):
    order = SampleOrder(num_samples, batch, seed, shuffle)
    steps = -(-length // batch)
    return np.concatenate([order.indices(step) for step in range(steps)])[:length]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 150), st.integers(0, 2**64 - 1))
def test_each_epoch_is_a_permutation(num_samples, batch, seed):
    epochs = stream(num_samples, batch, seed, 4 * num_samples).reshape(4, num_samples)
    assert (np.sort(epochs, axis=1) == np.arange(num_samples)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 150), st.integers(1, 150), st.booleans())
def test_the_stream_is_the_same_for_every_batch_size(num_samples, one, other, shuffle):
    length = 3 * num_samples + 7
    assert (stream(num_samples, one, 5, length, shuffle) == stream(num_samples, other, 5, length, shuffle)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 150))
def test_the_epoch_of_a_sample_is_the_pass_over_all_samples_that_it_is_of(num_samples, batch):
    order = SampleOrder(num_samples, batch, 3, True)
    steps = range(3 * num_samples // batch + 2)
    found = np.concatenate([order.epochs(step) for step in steps])
    assert found.dtype == np.int64
    assert (found == np.arange(len(found)) // num_samples).all()


def test_with_a_mixture_each_source_has_epochs_of_its_own():
    order = SampleOrder(7, 5, 3, True, Mixture((4, 3), (2, 1)))
    samples = np.concatenate([order.indices(step) for step in range(12)])
    epochs = np.concatenate([order.epochs(step) for step in range(12)])
    for own in (samples < 4, samples >= 4):
        size = len(set(samples[own]))
        assert (epochs[own] == np.arange(own.sum()) // size).all()
        for epoch in range(2):  # in one pass each sample of the source once
            assert len(set(samples[own & (epochs == epoch)])) == size


def test_steps_may_be_asked_in_any_order():
    forward = SampleOrder(50, 16, 1, True)
    batches = [forward.indices(step) for step in range(20)]
    assert all(batch.shape == (16,) and batch.dtype == np.int64 for batch in batches)
    jumping = SampleOrder(50, 16, 1, True)
    for step in (19, 0, 7, 7, 3, 18, 1):
        assert (jumping.indices(step) == batches[step]).all()
    assert len(jumping._streams[0]._permutations) <= 2


def test_seeds_and_epochs_differ():
    first_epochs = {tuple(stream(100, 100, seed, 100)) for seed in range(20)}
    epochs_of_one_seed = {tuple(row) for row in stream(100, 100, 0, 2000).reshape(20, 100)}
    assert len(first_epochs) == 20 and len(epochs_of_one_seed) == 20
    assert len(first_epochs & epochs_of_one_seed) == 1  # epoch 0 of seed 0 is in both


def test_shuffling_has_no_favourites():
    firsts = np.bincount([SampleOrder(8, 1, seed, True).indices(0)[0] for seed in range(1600)], minlength=8)
    assert abs(firsts - 200).max() < 60  # 4.5 standard deviations


def test_without_shuffle_the_order_is_that_of_the_file():
    assert SampleOrder(5, 3, 1, False).indices(1).tolist() == [3, 4, 0]


def test_the_order_is_pinned():
    """Checkpoints resume by position: another order in a new version would repeat and drop samples."""
    assert SampleOrder(10, 6, 1234, True).indices(1).tolist() == [4, 2, 5, 6, 0, 9]


def test_an_empty_dataset_or_batch_is_one_line():
    with pytest.raises(UsageError, match="no samples"):
        SampleOrder(0, 1, 0, True)
    with pytest.raises(UsageError, match="at least 1"):
        SampleOrder(1, 0, 0, True)
