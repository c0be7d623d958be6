"""Fields that plugins compute for every batch: the same in every layout, and what is wrong with one in one line."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from small_datasets import Numbers

import pipeloom
from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.data.added_fields import find_sample_fields
from pipeloom.core.data.batches import HeldOutBatches, TrainingBatches
from pipeloom.core.data.order import SampleOrder
from pipeloom.core.host.plugin_manager import PluginManager

pytestmark = pytest.mark.fast
NOISE, PLACE = Field("noise", (2,), "float32"), Field("place", (1,), "int32", 0, 30)
NAMES = ["number", "noise", "place"]
DATA = Numbers(number=np.arange(30, dtype=np.int32)[:, None])


def noise(seed, step, indices):
    """Depends on the whole batch: each rank must get its share of these very values."""
    return np.random.default_rng([seed, step, *indices]).standard_normal((len(indices), 2)).astype(np.float32)


def place(seed, step, indices):
    return indices[:, None].astype(np.int32)


GOOD = [SampleField(NOISE, noise), SampleField(PLACE, place, lambda indices: place(0, 0, indices))]


def host(*answers):
    """The host with a plugin for each of ``answers``, named ``p0``, ``p1``, ..."""
    manager = PluginManager()
    for number, answer in enumerate(answers):
        hook = pipeloom.hookimpl(lambda config, answer=answer: answer, specname="pipeloom_sample_fields")
        manager._register(SimpleNamespace(pipeloom_sample_fields=hook), f"p{number}")
        manager.versions[f"p{number}"] = "1"
    return manager


def found(*answers):
    return find_sample_fields(host(*answers), None, DATA.fields)


def whole(source, step, width):
    """The values of all ranks together."""
    parts = [source.read(step, NAMES, position, width) for position in range(width)]
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}


@pytest.mark.parametrize("width", [1, 2, 4])
def test_training_computes_for_the_global_batch_whatever_the_ranks(width):
    order = SampleOrder(30, 8, seed=1, shuffle=True)
    values = whole(TrainingBatches(DATA, order, (), 5, found(GOOD)), 2, width)
    np.testing.assert_array_equal(values["noise"], noise(5, 2, order.indices(2)))
    np.testing.assert_array_equal(values["place"], values["number"])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_held_out_samples_get_zeros_or_values_of_their_own(width):
    values = whole(HeldOutBatches(DATA, 8, (), (), found(GOOD)), 3, width)  # the last batch, filled up
    assert values["noise"].shape == (8, 2) and not values["noise"].any()
    assert values["place"][:, 0].tolist() == [24, 25, 26, 27, 28, 29, 0, 0]


def test_only_what_is_read_is_computed_and_the_indices_are_a_copy():
    def overwrites(seed, step, indices):
        indices[:] = 7
        return np.ones((len(indices), 2), np.float32)

    fails = SampleField(PLACE, lambda *arguments: 1 / 0)
    batches = TrainingBatches(DATA, SampleOrder(30, 8, 1, False), (), 5, found([SampleField(NOISE, overwrites), fails]))
    for _ in range(2):
        assert batches.read(0, ["number", "noise"], 0, 1)["number"][:, 0].tolist() == list(range(8))


@pytest.mark.parametrize("field, owner", [("number", "the dataset"), ("sample_weight", "pipeloom itself")])
def test_a_name_that_is_there_already_names_the_plugin(field, owner):
    with pytest.raises(UsageError) as error:
        found([SampleField(Field(field, (1,), "int32"), place)])
    says = f"it adds the field '{field}' to every batch, which {owner} has: give it another name"
    assert str(error.value) == f"plugin 'p0' (1): {says}"


def test_two_plugins_with_one_field_are_one_line():
    with pytest.raises(UsageError, match="adds the field 'noise' to every batch, which plugin 'p[01]' has: give it"):
        found(GOOD[:1], GOOD[:1])


@pytest.mark.parametrize(
    "answer, says",
    [
        (GOOD[0], "not a list of SampleFields of pipeloom.core.contract.sample_fields"),
        (None, "it answers None (is a 'return' missing?), not a list of SampleFields"),
        ([SampleField("noise", noise)], "its field 'noise' is 'noise', not a Field of"),
        ([SampleField(Field("n", (1,), "int64"), noise)], "its field 'n' must be of 'int32' or 'float32', not 'int64'"),
        ([SampleField(Field("n", (0,), "int32"), noise)], "the shape of its field 'n' must be a tuple of sizes from 1"),
        ([SampleField(Field("", (1,), "int32"), noise)], "its field '': the name must be text"),
        ([SampleField(NOISE, 3)], "'compute' and 'evaluate' of its field 'noise' must be functions"),
    ],
)
def test_an_answer_of_a_wrong_kind_is_one_line(answer, says):
    with pytest.raises(UsageError, match=f"^plugin 'p0' .1., hook pipeloom_sample_fields: .*{re.escape(says)}"):
        found(answer)


@pytest.mark.parametrize(
    "compute, says",
    [
        (lambda *arguments: 1 / 0, "ZeroDivisionError"),
        (lambda *arguments: None, "field 'place' of 8 samples is NoneType, declared is int32 (8, 1)"),
        (lambda seed, step, indices: indices[:4, None].astype(np.int32), "is int32 (4, 1), declared is int32 (8, 1)"),
        (lambda seed, step, indices: place(0, 0, indices) + 25, "sample 5: field 'place' is 30 at 0, it must be 0 to"),
    ],
)
def test_what_it_computes_is_held_to_the_field(compute, says):
    batches = TrainingBatches(DATA, SampleOrder(30, 8, 1, False), (), 5, found([SampleField(PLACE, compute)]))
    with pytest.raises(RunError, match=f"^plugin 'p0' .*pipeloom_sample_fields, 'place': .*{re.escape(says)}") as error:
        batches.read(0, NAMES, 1, 2)
    assert "\n" not in str(error.value)
