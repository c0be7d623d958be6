"""Masked text: how it is packed, which tokens are masked, and that only seed, epoch and record decide that."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from byte_bpe import write_byte_bpe

from pipeloom.core.base.errors import UsageError
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.core.data.order import SampleOrder
from pipeloom.plugins.datasets.wiki_text import pipeloom_default_options
from pipeloom.plugins.datasets.wiki_text.masked_text import MaskedText
from pipeloom.plugins.datasets.wiki_text.masking import Masker, MaskingRule, most_predictions
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder
from pipeloom.plugins.libraries.tokens.token_writing import TokenFolderWriter

pytestmark = pytest.mark.fast

CLS, PAD, SEP, UNK, MASK = range(5)
VOCABULARY = 200
RULE = MaskingRule(0.15, 1000, MASK, (CLS, PAD, SEP, UNK, MASK), VOCABULARY, seed=7)


def ids_of(length, seed=3):
    """Tokens with a few special ones among them."""
    ids = np.random.default_rng(seed).integers(5, VOCABULARY, length)
    ids[::10] = SEP
    ids[0], ids[-1] = CLS, SEP
    return ids.astype(np.int32)


def test_the_fractions_are_those_of_the_rule_to_within_one_percent():
    """15 % of the tokens that may be; of these 80 % mask, 10 % another token, 10 % as they were.

    360,000 tokens: 54,000 chosen, of which a share of 0.1 has a standard deviation of 0.13 %.
    """
    masker = Masker(RULE)
    chosen = kept = masked = ordinary = 0
    replaced: list = []
    for record in range(100):
        ids = ids_of(4000, record)
        changed, places = masker.mask(ids, 0, record)
        untouched = np.ones(len(ids), bool)
        untouched[places] = False
        assert (changed[untouched] == ids[untouched]).all()
        assert not np.isin(ids[places], RULE.special_ids).any() and (np.diff(places) > 0).all()
        ordinary += int((~np.isin(ids, RULE.special_ids)).sum())
        chosen += len(places)
        masked += int((changed[places] == MASK).sum())
        kept += int((changed[places] == ids[places]).sum())
        replaced += changed[places][(changed[places] != MASK) & (changed[places] != ids[places])].tolist()
    assert chosen / ordinary == pytest.approx(0.15, abs=1e-4)  # rounded by chance in each sample
    assert masked / chosen == pytest.approx(0.8, abs=0.01)
    # One in 195 of the random tokens is the one that stood there.
    assert len(replaced) / chosen == pytest.approx(0.1 * 194 / 195, abs=0.01)
    assert kept / chosen == pytest.approx(0.1 + 0.1 / 195, abs=0.01)
    # Any token but the special ones, each as often as another: about 28 of each.
    assert set(replaced) == set(range(5, VOCABULARY))
    assert np.bincount(replaced).max() < 60


def test_seed_epoch_record_and_source_decide_and_nothing_else():
    ids = ids_of(200)

    def masked(seed=7, epoch=0, record=0, source=0):
        rule = MaskingRule(0.15, 1000, MASK, RULE.special_ids, VOCABULARY, seed)
        return Masker(rule, source).mask(ids, epoch, record)[0].tolist()

    ways = [{}, {"seed": 8}, {"epoch": 1}, {"epoch": 2}, {"record": 1}, {"source": 1}, {"seed": -1}]
    assert all(masked(**way) == masked(**way) for way in ways)
    assert len({tuple(masked(**way)) for way in ways}) == len(ways)


def test_there_is_never_more_than_room_and_a_short_sample_may_have_none():
    few = MaskingRule(0.15, 4, MASK, RULE.special_ids, VOCABULARY, 7)
    assert all(len(Masker(few).mask(ids_of(200), 0, record)[1]) == 4 for record in range(20))
    counts = [len(Masker(RULE).mask(np.array([CLS, 9, 9, SEP], np.int32), 0, record)[1]) for record in range(200)]
    assert set(counts) == {0, 1} and 30 < sum(counts) < 90  # 0.3 of 200
    assert len(Masker(RULE).mask(np.array([CLS, SEP], np.int32), 0, 0)[1]) == 0


@pytest.mark.parametrize("length, most", [(512, 77), (128, 19), (102, 15), (3, 1)])
def test_room_is_for_as_many_as_the_rule_may_choose(length, most):
    assert most_predictions(0.15, length - 2) == most
    config = SimpleNamespace(mlm_probability=0.15, seq_length=length)
    assert pipeloom_default_options(config) == {"max_predictions": most}
    ids = np.full(length, 9, np.int32)
    ids[0], ids[-1] = CLS, SEP
    counts = [len(Masker(RULE).mask(ids, 0, record)[1]) for record in range(50)]
    assert max(counts) <= most


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("tokens")
    vocabulary = Vocabulary(write_byte_bpe(where / "vocabulary", {"tokenizer_class": "RobertaTokenizer"}))
    with TokenFolderWriter(where / "folder", vocabulary) as writer:
        rng = np.random.default_rng(5)
        for size in (3, 14, 40, 1, 9, 30, 200):
            writer.add(rng.integers(10, 200, size).tolist())
    return TokenFolder.open(where / "folder")


def dataset(folder, length=16, predictions=5, seed=7, probability=0.3):
    return MaskedText(folder, length, predictions, probability, seed, folder.vocab_size)


def restored(values, row):
    """The ids of a sample before they were masked."""
    ids = values["input_ids"][row].copy()
    used = values["masked_lm_weights"][row] > 0
    ids[values["masked_lm_positions"][row][used]] = values["masked_lm_ids"][row][used]
    return ids[values["input_mask"][row] > 0].tolist()


def test_documents_stand_end_to_end_with_separators_between(folder):
    """FULL-SENTENCES: every token of every document is in a sample, in order."""
    data = dataset(folder)
    values = data.read(range(len(data)), list(data.fields))
    stream = []
    for row in range(len(data)):
        ids = restored(values, row)
        assert ids[0] == CLS and ids[-1] == SEP and len(ids) <= 16
        inner = ids[1:-1]
        full = len(ids) == 16
        stream += inner if full else [*inner, SEP]
        assert (values["input_ids"][row][len(ids) :] == PAD).all()
    assert stream == [number for index in range(len(folder)) for number in [*folder.document(index).tolist(), SEP]]
    assert not values["segment_ids"].any()
    for name, field in data.fields.items():
        assert values[name].shape == (len(data), *field.shape) and values[name].dtype == field.dtype


def test_two_epochs_mask_differently_and_a_held_out_set_is_masked_once_for_all(folder):
    data = dataset(folder)
    rows = range(len(data) - 1)
    first, second = (data.read_epochs(rows, [epoch] * len(rows), list(data.fields)) for epoch in (0, 1))
    assert all((first["input_ids"][row] != second["input_ids"][row]).any() for row in rows)
    assert all(restored(first, row) == restored(second, row) for row in rows)
    again = data.read(rows, ["input_ids"])["input_ids"]
    assert (again == first["input_ids"]).all() and (again == data.read(rows, ["input_ids"])["input_ids"]).all()


def test_a_resumed_run_and_any_layout_mask_as_the_uninterrupted_one(folder):
    names = ["input_ids", "masked_lm_positions", "masked_lm_ids", "masked_lm_weights"]

    def batches():
        data = dataset(folder)
        return TrainingBatches(data, SampleOrder(len(data), 8, 7, True), ["masked_lm_weights"], 7)

    uninterrupted = batches()
    steps = [uninterrupted.read(step, names, 0, 1) for step in range(9)]  # over three epochs of 22 samples
    for step in (4, 8, 2):  # another process, which begins there
        parts = [batches().read(step, names, position, 4) for position in range(4)]
        for name in names:
            assert (np.concatenate([part[name] for part in parts]) == steps[step][name]).all(), (step, name)
    weights = steps[0]["masked_lm_weights"]
    assert weights.sum() == pytest.approx(1.0) and len(set(weights[weights > 0].tolist())) == 1


def test_other_ways_of_masking_are_other_data(folder):
    prints = {dataset(folder, probability=probability).fingerprint() for probability in (0.1, 0.3)}
    assert len({*prints, dataset(folder, length=20).fingerprint(), dataset(folder, predictions=4).fingerprint()}) == 4
    assert dataset(folder).fingerprint() == dataset(folder).fingerprint()


def test_a_vocabulary_without_a_mask_is_one_line(tmp_path):
    vocabulary = Vocabulary(write_byte_bpe(tmp_path / "vocabulary", {"tokenizer_class": "GPT2Tokenizer"}))
    with TokenFolderWriter(tmp_path / "folder", vocabulary) as writer:
        writer.add([20, 30, 40])
    with pytest.raises(UsageError, match="has no token"):
        dataset(TokenFolder.open(tmp_path / "folder"))
