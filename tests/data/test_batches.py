"""What each rank reads of a batch: in training its share, in evaluation the whole held-out set once over all of
them.
"""

from __future__ import annotations

import numpy as np
import pytest

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT
from pipeloom.core.contract.dataset import Dataset, Field, FirstSamples
from pipeloom.core.contract.derived import DerivedField, WithDerived
from pipeloom.core.data import batches
from pipeloom.core.data.batches import HeldOutBatches, TrainingBatches
from pipeloom.core.data.checking import CheckedDataset
from pipeloom.core.data.dropout_seeds import dropout_seeds
from pipeloom.core.data.mixture import MixedDataset
from pipeloom.core.data.order import SampleOrder

pytestmark = pytest.mark.fast
NAMES = ["number", "weights", "plain", DROPOUT_SEEDS, SAMPLE_WEIGHT]


class Numbered(Dataset):
    """Sample ``i`` has the number ``i``, and three weights; notes what is read of it."""

    task, vocab_size = "counting", 0
    fields = {
        "number": Field("number", (1,), "int32"),
        "weights": Field("weights", (3,), "float32"),
        "plain": Field("plain", (2,), "float32"),
    }

    def __init__(self, count, weight=None):
        self.count, self.log = count, []
        self.weights = (
            np.random.default_rng(3).integers(0, 3, (count, 3)).astype(np.float32)
            if weight is None
            else np.full((count, 3), weight, np.float32)
        )

    def __len__(self):
        return self.count

    def read(self, indices, names):
        self.log.append((list(indices), list(names)))
        indices = np.asarray(indices)
        values = {
            "number": indices[:, None].astype(np.int32),
            "weights": self.weights[indices],
            "plain": np.ones((len(indices), 2), np.float32),
        }
        return {name: values[name] for name in names}

    def describe(self):
        return f"{self.count} numbers"


def checked_and_derived(data):
    twice = DerivedField(Field("twice", (1,), "int32"), ("number",), lambda number: 2 * number)
    return CheckedDataset(WithDerived(data, [twice]))


def mixed(data):
    return MixedDataset([data])


def whole(source, step, width, names=NAMES):
    """The values of all ranks together."""
    parts = [source.read(step, names, position, width) for position in range(width)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_step_of_training(width):
    data = Numbered(30)
    order = SampleOrder(30, 8, seed=1, shuffle=True)
    values = whole(TrainingBatches(data, order, ("weights",), seed=5), 2, width)
    indices = order.indices(2)
    np.testing.assert_array_equal(values["number"][:, 0], indices)
    np.testing.assert_array_equal(values["weights"], data.weights[indices] / data.weights[indices].sum())
    np.testing.assert_array_equal(values[SAMPLE_WEIGHT], np.full((8, 1), 1 / 8, np.float32))
    np.testing.assert_array_equal(values[DROPOUT_SEEDS], dropout_seeds(5, 2, 8))
    assert values["plain"].min() == 1  # no weight, so left as it is


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24, 29])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_each_held_out_sample_counts_once(count, width):
    data = Numbered(count)
    source = HeldOutBatches(data, 8, ("weights",))
    assert len(source) == -(-count // 8)
    read = [whole(source, step, width) for step in range(len(source))]
    values = {name: np.concatenate([batch[name] for batch in read]) for name in NAMES}
    assert len(values["number"]) == 8 * len(source)
    assert values["number"][:count, 0].tolist() == list(range(count))
    np.testing.assert_allclose(values["weights"][:count], data.weights / max(data.weights.sum(), 1), rtol=1e-6)
    np.testing.assert_allclose(values[SAMPLE_WEIGHT][:count], 1 / count, rtol=1e-6)
    # What fills up the last batch is there, and weighs nothing.
    assert not values["weights"][count:].any() and not values[SAMPLE_WEIGHT][count:].any()
    assert values["weights"].sum() == pytest.approx(1) and values[SAMPLE_WEIGHT].sum() == pytest.approx(1)


def test_a_rank_reads_its_own_samples_and_what_it_needs(monkeypatch):
    monkeypatch.setattr(batches, "_CHUNK", 4)
    data = Numbered(10)
    source = HeldOutBatches(data, 4, ("weights",))
    assert set(source.read(0, ["number"], 1, 2)) == {"number", DROPOUT_SEEDS, SAMPLE_WEIGHT}
    assert data.log == [([2, 3], ["number"])]  # of the weights nothing
    data.log.clear()
    for step in (0, 1, 2, 0):
        source.read(step, ["weights"], 0, 2)
    sums = [([0, 1, 2, 3], ["weights"]), ([4, 5, 6, 7], ["weights"]), ([8, 9], ["weights"])]  # once, in pieces
    assert data.log == [
        ([0, 1], ["weights"]),
        *sums,
        ([4, 5], ["weights"]),
        ([8, 9], ["weights"]),
        ([0, 1], ["weights"]),
    ]


def test_weights_that_are_all_zero_stay_so():
    values = HeldOutBatches(Numbered(3, weight=0.0), 4, ("weights",)).read(0, NAMES, 0, 1)
    assert not values["weights"].any()


def test_the_first_samples_of_a_set():
    first = FirstSamples(Numbered(10), 3)
    assert len(first) == 3 and first.describe() == "the first 3 of 10 numbers" and first.fields == Numbered.fields
    assert len(HeldOutBatches(first, 2, ())) == 2


class ByEpoch(Numbered):
    """Reads in training also which pass a sample is of."""

    def read_epochs(self, indices, epochs, names):
        values = self.read(indices, names)
        passes = np.asarray(epochs)[:, None]
        return {
            name: value + passes.astype(value.dtype) if name in ("number", "weights") else value
            for name, value in values.items()
        }


@pytest.mark.parametrize("wrap", [lambda data: data, checked_and_derived, mixed])
def test_training_reads_each_sample_for_its_epoch_whatever_the_layout(wrap):
    data = wrap(ByEpoch(6, weight=1.0))
    order = SampleOrder(6, 4, 11, True)
    training = TrainingBatches(data, order, ["weights"], 11)
    for step in range(4):
        numbers, epochs = order.indices(step), order.epochs(step)
        for width in (1, 2, 4):
            read = whole(training, step, width)
            assert (read["number"][:, 0] == numbers + epochs).all()
            # what is normalised, by its sum over the batch, is of the same epochs
            assert np.allclose(read["weights"], (1.0 + epochs[:, None]) / (3 * (1.0 + epochs).sum()))
    held_out = HeldOutBatches(data, 4, [])
    assert (held_out.read(0, ["number"], 0, 1)["number"][:, 0] == np.arange(4)).all()


def test_derived_fields_are_made_of_what_was_read_for_the_epoch():
    data = checked_and_derived(ByEpoch(6))
    assert data.read_epochs([4], [3], ["twice", "number"])["twice"].tolist() == [[14]]
    assert data.read([4], ["twice"])["twice"].tolist() == [[8]]
