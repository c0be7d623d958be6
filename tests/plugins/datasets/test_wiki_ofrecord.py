"""The wiki_ofrecord plugin: the embedded sample, and the public Wikipedia file."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from shared_data import shared
from wiki_records import FIELDS, open_dataset

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.datasets import wiki_ofrecord
from pipeloom.plugins.datasets.wiki_ofrecord import sample
from pipeloom.plugins.libraries.corpus import embedded_text
from pipeloom.plugins.libraries.ofrecord.records import write_part
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path))
    monkeypatch.setitem(sample._SETTINGS, "dupe_factor", 1)


@pytest.fixture(scope="session")
def public():
    return shared("wiki_ofrecord_seq_len_128")


def test_options_are_declared():
    added = {}
    options = SimpleNamespace(add=lambda name, type, **rest: added.update({name: (type, rest)}))
    wiki_ofrecord.pipeloom_add_options(options=options)
    assert {name: (type, rest["default"], rest["section"]) for name, (type, rest) in added.items()} == {
        "ofrecord_path": (str, None, "data"),
        "eval_path": (str, None, "data"),
        "max_predictions": (int, 20, "data"),
    }


def test_without_a_path_the_embedded_sample_is_read(cache):
    data = open_dataset()
    assert data.task == "pretraining" and data.vocab_size == 4096 and len(data) > 400
    assert {name: (field.shape, field.dtype) for name, field in data.fields.items()} == FIELDS
    batch = data.read(range(len(data)), list(data.fields))
    assert batch["input_ids"].shape == (len(data), 128)
    assert open_dataset(vocab_size=8192).vocab_size == 8192
    with pytest.raises(
        UsageError, match="--vocab_size 100 is smaller than the vocabulary of the embedded sample: give at least 4096"
    ):
        open_dataset(vocab_size=100)


def test_the_sample_has_the_sizes_that_the_run_asks_for(cache, monkeypatch):
    topics = {name: text for name, text in embedded_text.topics().items() if name in ("if", "while", "for")}
    monkeypatch.setattr(embedded_text, "topics", lambda: topics)
    batch = open_dataset(seq_length=64, max_predictions=7).read([0], ["input_ids", "masked_lm_ids"])
    assert batch["input_ids"].shape == (1, 64) and batch["masked_lm_ids"].shape == (1, 7)


def test_the_public_file_is_read(public):
    for path in (public, public / "part-0"):
        data = open_dataset(ofrecord_path=str(path))
        assert len(data) == 1024 and data.vocab_size == 30522
        assert {name: (field.shape, field.dtype) for name, field in data.fields.items()} == FIELDS
    batch = data.read(range(1024), list(data.fields))
    assert batch["input_ids"].max() == 30511 and len(np.unique(batch["input_ids"], axis=0)) == 1024
    assert batch["input_mask"].sum(axis=1).mean() == pytest.approx(105.8, abs=0.05)
    assert batch["masked_lm_weights"].sum(axis=1).mean() == pytest.approx(15.76, abs=0.005)
    assert batch["next_sentence_labels"].mean() == pytest.approx(0.555, abs=0.0005)


def test_the_public_file_is_the_text_that_its_readme_quotes(public):
    tokens = WordPieceTokenizer.load(shared("bert-base-uncased-vocab.txt")).tokens
    record = open_dataset(ofrecord_path=str(public)).read([1], ["input_ids", "masked_lm_ids"])
    text = " ".join(tokens[i] for i in record["input_ids"][0])
    assert text.startswith("[CLS] it [MASK] [MASK] two storey ##s and has a double - depth")
    assert [tokens[i] for i in record["masked_lm_ids"][0][:4]] == ["is", "in", "plan", ","]


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(seq_length=64), "part-0 record 0: field 'input_ids' has 128 values, --seq_length 64 needs 64$"),
        (
            dict(max_predictions=10),
            "part-0 record 0: field 'masked_lm_positions' has 20 values, --max_predictions 10 needs 10$",
        ),
        (
            dict(vocab_size=1000),
            "part-0 record 0: field 'input_ids' has the value .*, --vocab_size 1000 allows 0 to 999$",
        ),
    ],
)
def test_a_wrong_option_fails_at_once_and_is_named(public, changes, says):
    with pytest.raises(UsageError, match=says):
        open_dataset(ofrecord_path=str(public), **changes)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_checked(tmp_path, field):
    record = {name: np.zeros(shape, dtype) for name, (shape, dtype) in FIELDS.items()}
    write_part(tmp_path / "part-0", [record])
    assert len(open_dataset(ofrecord_path=str(tmp_path))) == 1
    del record[field]
    write_part(tmp_path / "part-0", [record])
    with pytest.raises(UsageError, match=f"part-0 record 0: has no field '{field}'"):
        open_dataset(ofrecord_path=str(tmp_path))


@pytest.mark.parametrize(
    "field, value",
    [
        ("input_ids", 30522),
        ("input_ids", -1),
        ("input_mask", 2),
        ("segment_ids", 2),
        ("masked_lm_positions", 128),
        ("masked_lm_ids", 30522),
        ("next_sentence_labels", 2),
    ],
)
def test_what_would_kill_a_kernel_is_out_of_bounds(tmp_path, field, value):
    record = {name: np.zeros(shape, dtype) for name, (shape, dtype) in FIELDS.items()}
    record[field][-1] = value
    write_part(tmp_path / "part-0", [record])
    with pytest.raises(UsageError, match=f"part-0 record 0: field '{field}' has the value {value} at position"):
        open_dataset(ofrecord_path=str(tmp_path))


def test_a_misspelt_path_gets_a_suggestion(public, tmp_path):
    shutil.copytree(public, tmp_path / "wiki_ofrecord")
    with pytest.raises(UsageError, match=r"\(did you mean 'wiki_ofrecord'\?\)"):
        open_dataset(ofrecord_path=str(tmp_path / "wiki_ofrecords"))


def test_there_are_two_splits():
    with pytest.raises(UsageError, match="no split 'dev'; it has 'train' and 'eval'"):
        open_dataset(split="dev")


def test_held_out_records_are_those_of_their_own_path(public, cache):
    data = open_dataset("eval", eval_every=10, ofrecord_path="elsewhere", eval_path=str(public), vocab_size=30522)
    assert len(data) == 1024 and data.path == public
    assert open_dataset("eval", eval_every=10, eval_path=str(public), vocab_size=30522).path == public
    with pytest.raises(
        UsageError,
        match="^--eval_every 10: which records are held out from --ofrecord_path[?] give others with --eval_path$",
    ):
        open_dataset("eval", eval_every=10, ofrecord_path=str(public))
    # asked for without --eval_every
    assert open_dataset(eval_path="elsewhere").held_out and not open_dataset().held_out


def test_the_embedded_sample_has_held_out_samples_of_its_vocabulary(cache):
    training, held_out = open_dataset(), open_dataset("eval", eval_every=10, vocab_size=4096)
    assert {name: (field.shape, field.dtype) for name, field in held_out.fields.items()} == FIELDS
    assert held_out.path != training.path and 200 < len(held_out) < 1000
    batch = held_out.read(range(len(held_out)), list(FIELDS))
    assert (batch["input_ids"] == 1).sum() < 0.02 * batch["input_mask"].sum()  # few words unknown
    assert 0.4 < batch["next_sentence_labels"].mean() < 0.6
    assert (held_out.path / "vocab.txt").read_bytes() == (training.path / "vocab.txt").read_bytes()
