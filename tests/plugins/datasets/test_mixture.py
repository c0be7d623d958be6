"""Mixtures: the shares of their sources everywhere in the stream, the epochs of each, and how a command line names
them.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resumed_runs import FLAGS, resume, write
from wiki_records import FIELDS, open_dataset

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.interleaving import Mixture
from pipeloom.core.data.mixture import MixedDataset, paths_in, weighted_paths
from pipeloom.core.data.order import SampleOrder, shares_of
from pipeloom.core.launch.identity import identity
from pipeloom.core.planning.planner import make_plan
from pipeloom.plugins.libraries.ofrecord.records import write_part

pytestmark = pytest.mark.fast

WEIGHTS = st.lists(st.integers(1, 1000).map(lambda thousandths: thousandths / 1000), min_size=2, max_size=7)


class Numbers(Dataset):
    """``count`` samples whose field ``x`` is ``first``, ``first + 1`` and on."""

    def __init__(self, first, count, task="t", vocab_size=9):
        self.first, self.count, self.task, self.vocab_size, self.fields = (
            first,
            count,
            task,
            vocab_size,
            {"x": Field("x", (2,), "int32")},
        )

    def __len__(self):
        return self.count

    def read(self, indices, names):
        return {name: np.repeat(self.first + np.array(indices)[:, None], 2, axis=1).astype(np.int32) for name in names}

    def describe(self):
        return f"{self.count} numbers from {self.first}"


def stream(sizes, weights, batch, length, seed=5, shuffle=True):
    order = SampleOrder(sum(sizes), batch, seed, shuffle, Mixture(tuple(sizes), tuple(shares_of(weights))))
    return np.concatenate([order.indices(step) for step in range(-(-length // batch))])[:length]


def owners(samples, sizes):
    return np.searchsorted(np.cumsum(sizes), samples, side="right")


# --- the order


@settings(max_examples=12, deadline=None)
@given(WEIGHTS)
def test_every_beginning_of_the_stream_has_the_shares_to_within_one_sample(weights):
    sizes = range(3, 3 + len(weights))
    length = 3 * sum(shares_of(weights)) + 11 if sum(shares_of(weights)) < 1000 else 3000
    from_source = owners(stream(sizes, weights, 64, length), sizes)[:, None] == np.arange(len(weights))
    wanted = np.arange(1, length + 1)[:, None] * np.array(weights) / sum(weights)
    assert abs(np.cumsum(from_source, axis=0) - wanted).max() < 1


def test_two_sources_take_turns():
    assert owners(stream((4, 4), (1, 1), 3, 8), (4, 4)).tolist() in ([0, 1] * 4, [1, 0] * 4)
    assert shares_of([0.7, 0.3]) == [7, 3] and shares_of([2, 2, 4]) == [1, 1, 2] and shares_of([1 / 3, 2 / 3]) == [1, 2]
    assert shares_of([0.12341, 0.87659]) == [617, 4383]  # 1234 and 8766 in 10000


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_the_stream_is_the_same_for_every_batch_size(weights, one, other, shuffle):
    sizes = range(2, 2 + len(weights))
    assert (
        stream(sizes, weights, one, 300, shuffle=shuffle) == stream(sizes, weights, other, 300, shuffle=shuffle)
    ).all()


def test_steps_may_be_asked_in_any_order():
    order = SampleOrder(30, 7, 3, True, Mixture((10, 20), (1, 2)))
    batches = [order.indices(step) for step in range(40)]
    for step in (39, 0, 17, 17, 38):
        assert (SampleOrder(30, 7, 3, True, Mixture((10, 20), (1, 2))).indices(step) == batches[step]).all()
        assert (order.indices(step) == batches[step]).all()


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.integers(0, 2**64 - 1))
def test_each_source_has_epochs_of_its_own(weights, seed):
    sizes = list(range(5, 5 + len(weights)))
    samples = stream(sizes, weights, 32, 2000, seed)
    for source, size in enumerate(sizes):
        mine = samples[owners(samples, sizes) == source] - sum(sizes[:source])
        epochs = mine[: len(mine) // size * size].reshape(-1, size)
        assert (np.sort(epochs, axis=1) == np.arange(size)).all()
        assert len(epochs) < 20 or len({tuple(epoch) for epoch in epochs}) > 10


def test_sources_of_one_size_have_different_orders():
    samples = stream((50, 50), (1, 1), 10, 100)
    assert (samples[owners(samples, (50, 50)) == 0] != samples[owners(samples, (50, 50)) == 1] - 50).any()


def test_a_single_source_is_in_the_order_of_a_dataset_without_a_mixture():
    plain, single = SampleOrder(37, 16, 9, True), SampleOrder(37, 16, 9, True, Mixture((37,), (1,)))
    assert all((plain.indices(step) == single.indices(step)).all() for step in range(12))


def test_without_shuffle_each_source_is_in_the_order_of_its_file():
    samples = stream((3, 5), (1, 2), 4, 15, shuffle=False)
    assert samples[owners(samples, (3, 5)) == 0].tolist() == [0, 1, 2, 0, 1]
    assert samples[owners(samples, (3, 5)) == 1].tolist() == [3, 4, 5, 6, 7, 3, 4, 5, 6, 7]


def test_the_order_is_pinned():
    """Checkpoints resume by position: another order in a new version would repeat and drop samples."""
    order = SampleOrder(10, 8, 1234, True, Mixture((6, 4), (7, 3)))
    assert order.indices(2).tolist() == [3, 2, 6, 0, 5, 9, 3, 1]


# --- the dataset


def test_samples_are_read_in_the_order_asked_for():
    mixed = MixedDataset([Numbers(0, 3), Numbers(100, 4), Numbers(200, 2)], [1, 2, 1])
    assert mixed.read([8, 0, 3, 2, 6, 7], ["x"])["x"].tolist() == [
        [number, number] for number in (201, 0, 100, 2, 103, 200)
    ]
    assert (
        mixed.read([], ["x"])["x"].shape == (0, 2) and len(mixed) == 9 and mixed.task == "t" and mixed.vocab_size == 9
    )
    for index in (-1, 9):
        with pytest.raises(IndexError, match="of 9"):
            mixed.read([0, index], ["x"])


def test_the_fingerprint_is_of_all_and_of_the_shares():
    def of(weights, *datasets):
        return MixedDataset(datasets, weights).fingerprint()

    one, other, third = Numbers(0, 3), Numbers(0, 4), Numbers(0, 5)
    prints = [
        of([7, 3], one, other),
        of([3, 7], one, other),
        of([7, 3], other, one),
        of(None, one, other),
        of([7, 3], one, third),
    ]
    assert len(set(prints)) == 5 and of([0.7, 0.3], one, other) == prints[0]


def test_what_does_not_go_together_is_refused():
    for other, what in ((Numbers(0, 3, task="u"), "task"), (Numbers(0, 3, vocab_size=8), "vocab_size")):
        with pytest.raises(
            UsageError,
            match=f"the {what} of '3 numbers from 0' is not that of '2 numbers from 5': such sets cannot be mixed",
        ):
            MixedDataset([Numbers(5, 2), other])
    with pytest.raises(UsageError, match="the weight 1e-06 of '3 numbers from 7' is less than one part in 10000"):
        MixedDataset([Numbers(0, 3), Numbers(7, 3)], [1, 1e-6])


# --- the command line


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, (name, count) in enumerate((("a", 6), ("b", 3), ("c,d", 2), ("e:2", 2))):
        (tmp_path / name).mkdir()
        record = {name: np.full(shape, number, dtype) for name, (shape, dtype) in FIELDS.items()}
        record.update(
            input_mask=np.ones(128, np.int32),
            segment_ids=np.zeros(128, np.int32),
            next_sentence_labels=np.zeros(1, np.int32),
        )
        write_part(tmp_path / name / "part-0", [record] * count)
    return tmp_path


def test_paths_and_weights(folders):
    assert weighted_paths("a:0.7,b:3e-1", "--x") == [("a", 0.7), ("b", 0.3)]
    assert weighted_paths("c,d", "--x") == [("c,d", None)] and weighted_paths("e:2", "--x") == [("e:2", None)]
    assert weighted_paths("a:1,c,d:2,e:2:3", "--x") == [("a", 1.0), ("c,d", 2.0), ("e:2", 3.0)]
    assert weighted_paths("nothing:here", "--x") == [("nothing:here", None)] and paths_in("x,y") == ["x", "y"]


def test_a_mixture_is_opened(folders):
    data = open_dataset(ofrecord_path="a:0.7,b:0.3")
    assert len(data) == 9 and data.mixture == Mixture((6, 3), (7, 3)) and data.vocab_size == 30522
    assert data.describe() == "a mixture of 70 % from 6 samples in 1 part of a, 30 % from 3 samples in 1 part of b"
    assert data.read([8, 0], ["input_ids"])["input_ids"][:, 0].tolist() == [1, 0]
    whole = open_dataset(ofrecord_path="a,b")
    assert (
        whole.mixture is None
        and len(whole) == 9
        and whole.describe() == "9 samples: 6 samples in 1 part of a, 3 samples in 1 part of b"
    )
    for alone in ("a", "a:5"):
        assert (
            open_dataset(ofrecord_path=alone).fingerprint()
            == open_dataset(ofrecord_path=str(folders / "a")).fingerprint()
        )


@pytest.mark.parametrize(
    "path, says",
    [
        ("a:x,b:1", "^--ofrecord_path a:x: the weight must be a number above 0$"),
        ("a:0,b:1", "^--ofrecord_path a:0: the weight must be"),
        ("a:-1,b:1", "the weight must be"),
        ("a:nan,b:1", "the weight must be"),
        ("a:inf,b:1", "the weight must be"),
        ("a:,b:1", "the weight must be"),
        ("a:1,b", "^--ofrecord_path: 'b' has no weight and others have: give all of them one"),
        ("a,,b", "^--ofrecord_path a,,b: a path is empty"),
        ("a:1,./a:2", "^--ofrecord_path: a is there twice; a weight makes more of it$"),
        ("a:1,bb:2", r"^no file or folder bb \(did you mean 'b'\?\)$"),
        ("a:1,b:1e-9", "is less than one part in 10000"),
    ],
)
def test_a_mixture_that_cannot_be_is_one_line(folders, path, says):
    with pytest.raises(UsageError, match=says):
        open_dataset(ofrecord_path=path)


def test_held_out_records_take_no_weights(folders):
    for path in ("a:0.5,b:0.5", "a,b", "a:1"):
        with pytest.raises(
            UsageError,
            match="^--eval_path .*: an evaluation reads one file or folder, once over: give one, without a weight$",
        ):
            open_dataset("eval", eval_every=5, eval_path=path, vocab_size=30522)
    assert len(open_dataset("eval", eval_every=5, eval_path="c,d", vocab_size=30522)) == 2


def test_the_vocabulary_beside_the_records_is_theirs(folders):
    (folders / "b" / "vocab.txt").write_text("".join(f"{number}\n" for number in range(50)))
    assert open_dataset(ofrecord_path="b").vocab_size == open_dataset(ofrecord_path="a:1,b:1").vocab_size == 50
    assert (
        open_dataset(ofrecord_path="b", vocab_size=64).vocab_size == 64
        and open_dataset(ofrecord_path="b/part-0").vocab_size == 30522
    )
    with pytest.raises(
        UsageError, match="^--vocab_size 49 is smaller than the vocabulary of b: give at least 50, or leave it out$"
    ):
        open_dataset(ofrecord_path="b", vocab_size=49)
    (folders / "a" / "vocab.txt").write_text("".join(f"{number}\n" for number in range(49, -1, -1)))
    with pytest.raises(UsageError, match="^--ofrecord_path: a and b have different vocabularies"):
        open_dataset(ofrecord_path="a:1,b:1")


def plan(path, *flags):
    config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--ofrecord_path", path, *flags])
    return make_plan(config, plugins), plugins


def test_a_run_takes_its_order_from_the_mixture(folders):
    mixed, _ = plan("a:1,b:3", "--epochs", "2", "--train_global_batch_size", "8")
    assert [(mixed.order().indices(step) >= 6).sum() for step in range(5)] == [6] * 5
    assert mixed.config.train_steps == 3  # an epoch: as many samples as there are, 9


def test_nodes_may_have_a_mixture_in_other_places(folders):
    for name in ("a", "b"):
        shutil.copytree(folders / name, folders / "elsewhere" / name)
    first, same = identity(*plan("a:1,b:3")), identity(*plan("elsewhere/a:1,elsewhere/b:3"))
    assert same == first
    assert {name for name, value in identity(*plan("a:1,b:2")).items() if value != first[name]} == {
        "--ofrecord_path",
        "data",
    }


def test_other_weights_are_other_data_for_a_resumed_run(folders):
    flags = [*FLAGS, "--train_global_batch_size", "8"]
    directory = write(folders / "run", 3, *flags, "--ofrecord_path", "a:1,b:3").parent.parent
    assert resume(directory)[1] == []
    assert [line.split()[1] for line in resume(directory, "--ofrecord_path", "a:0.25,b:0.75")[1]] == [
        "ofrecord_path"
    ]  # the same shares
    with pytest.raises(UsageError, match=r"made with other mathematics \(data \w+ -> \w+\): .* --resume_allow data$"):
        resume(directory, "--ofrecord_path", "a:1,b:2")
    assert [
        line.split()[1] for line in resume(directory, "--ofrecord_path", "a:1,b:2", "--resume_allow", "data")[1]
    ] == ["ofrecord_path", "data"]
