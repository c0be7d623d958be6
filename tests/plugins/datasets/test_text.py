"""The dataset plugin ``text``: what becomes of text, where its tokenizer comes from, samples, mixtures, and what users
get wrong."""

import bz2
import gzip
import json
import lzma
from types import SimpleNamespace

import numpy as np
import pytest
from byte_bpe import write_byte_bpe

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.core.data.order import SampleOrder
from pipeloom.plugins.datasets import text as plugin
from pipeloom.plugins.libraries.corpus import embedded_text
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.token_writing import TokenFolderWriter

pytestmark = pytest.mark.fast

PAGE = "Roses  are red,\r\n\tviolets are blue;\n\nsugar is sweet é 😀\n\n\nand so are you.\n"
POEM = PAGE.replace("\r\n", "\n").strip("\n")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def vocab(tmp_path):
    return write_byte_bpe(tmp_path / "vocab", {"tokenizer_class": "GPT2Tokenizer"})


def config(**changes):
    usual = dict(text_path=None, eval_path=None, vocab=None, text_documents="file", text_key="text", seq_length=8)
    more = dict(vocab_size=None, init_from=None, eval_every=None)
    return SimpleNamespace(**{**usual, **more, **changes})


def opened(split="train", **changes):
    return plugin.pipeloom_open_dataset(
        config(**{k: str(v) if k.endswith("path") else v for k, v in changes.items()}), split
    )


def stream(data):
    """All tokens of a dataset that are inputs, and all that are predicted, in their order."""
    batch = data.read(range(len(data)), list(data.fields))
    weighted = batch["next_weights"].reshape(-1) > 0
    return batch["input_ids"].reshape(-1)[weighted], batch["next_ids"].reshape(-1)[weighted], batch


def texts(data):
    """The documents of a dataset, as text."""
    ids, following, _ = stream(data)
    tokenizer = data.vocabulary.load()
    whole = [int(ids[0]), *following.tolist()]
    ends = [place for place, number in enumerate(whole) if number == tokenizer.special_id("eos")]
    return [tokenizer.decode(whole[a:b]) for a, b in zip([0, *(end + 1 for end in ends)], ends)]


def test_plain_text_is_what_it_was_and_its_tokens_follow_one_another(tmp_path, vocab):
    (tmp_path / "page.txt").write_bytes(PAGE.encode())
    data = opened(text_path=tmp_path / "page.txt", vocab=str(vocab))
    assert texts(data) == [POEM] and data.task == "causal_lm" and data.vocab_size == 276
    ids, following, batch = stream(data)
    tokenizer = Vocabulary(vocab).load()
    assert [*ids, following[-1]] == [*tokenizer.encode(POEM), 5]
    # the last sample is filled up with what has no weight and is of no document
    left = (len(ids) - 1) % 8 + 1
    assert batch["next_weights"][-1].tolist() == [1.0] * left + [0.0] * (8 - left)
    assert batch["document_ids"][-1].tolist() == [0] * left + [1] * (8 - left)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in (POEM, "two"))),
        ("a.jsonl.gz", gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in (POEM, "two")).encode())),
        ("a.txt.bz2", bz2.compress(b"one\n\n\n  two\n")),
        ("a.xz", lzma.compress(b"\xef\xbb\xbfone\r\n\r\n  two")),
    ],
)
def test_kinds_of_text(tmp_path, vocab, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    data = opened(text_path=tmp_path / name, vocab=str(vocab), text_documents="blank_lines")
    assert texts(data) == ([POEM, "two"] if "jsonl" in name else ["one", "  two"])


def test_each_line_a_document(tmp_path, vocab):
    (tmp_path / "a").write_text("one\n\n two \nthree")
    assert texts(opened(text_path=tmp_path / "a", vocab=str(vocab), text_documents="lines")) == [
        "one",
        " two ",
        "three",
    ]


def test_nothing_before_a_document_is_used_to_predict_its_first_token(tmp_path, vocab):
    (tmp_path / "a").write_text("one\ntwo\nthree")
    given = dict(text_path=tmp_path / "a", vocab=str(vocab), text_documents="lines")
    crossing, apart = (opened(**given, attend_across_documents=value) for value in (True, False))
    first, second = (data.read(range(len(data)), list(data.fields)) for data in (crossing, apart))
    for name in ("input_ids", "next_ids", "document_ids"):
        np.testing.assert_array_equal(first[name], second[name])
    borders = first["input_ids"] == 5
    np.testing.assert_array_equal(second["next_weights"], first["next_weights"] * ~borders)
    assert crossing.fingerprint() != apart.fingerprint()


def test_the_embedded_sample_and_what_is_held_out_from_it(monkeypatch):
    topics = embedded_text.topics()
    monkeypatch.setattr(
        embedded_text, "topics", lambda: {name: topics[name] for name in ("if", "while", "for", "with")}
    )
    monkeypatch.setattr(embedded_text, "MODULES", ("bdb", "difflib"))
    data, held_out = opened(seq_length=64), opened("eval", seq_length=64)
    assert data.vocab_size == held_out.vocab_size > 400 and data.fields == held_out.fields
    assert data.vocabulary.digest() == held_out.vocabulary.digest()
    assert not set(texts(data)) & set(texts(held_out)) and len(texts(data)) == 4
    assert opened(vocab_size=300, seq_length=64).vocab_size == 300


def test_text_is_tokenised_once_and_a_damaged_cache_is_made_again(tmp_path, vocab):
    (tmp_path / "page.txt").write_text(PAGE)
    given = dict(text_path=tmp_path / "page.txt", vocab=str(vocab))
    fingerprint = opened(**given).fingerprint()
    (folder,) = (tmp_path / "cache").glob("tokens-*")
    tokens = folder / "tokens.bin"
    was = tokens.stat().st_mtime_ns
    assert opened(**given).fingerprint() == fingerprint and tokens.stat().st_mtime_ns == was
    tokens.write_bytes(b"\xff" * tokens.stat().st_size)
    assert opened(**given).fingerprint() == fingerprint and texts(opened(**given)) == [POEM]


def write_tokens(folder, vocab, documents=((7, 8), (9,))):
    with TokenFolderWriter(folder, Vocabulary(vocab), "a test") as writer:
        for ids in documents:
            writer.add(ids)
    return folder


def test_a_mixture_of_token_folders_and_text_is_read_in_order_and_resumed_exactly(tmp_path, vocab):
    write_tokens(tmp_path / "tokens", vocab, [range(10, 200)] * 3)
    (tmp_path / "page.txt").write_text(PAGE * 5)
    data = opened(text_path=f"{tmp_path / 'tokens'}:0.75,{tmp_path / 'page.txt'}:0.25")
    assert data.vocabulary.digest() == Vocabulary(vocab).digest()
    assert data.describe().startswith("a mixture of 75 % from 72 samples of 8 tokens: 570 tokens in 3 documents")

    def batches(first, last):
        order = SampleOrder(len(data), 4, seed=3, shuffle=True, mixture=data.mixture)
        training = TrainingBatches(data, order, normalize=("next_weights",), seed=3)
        return [training.read(step, ["input_ids"], 0, 1)["input_ids"].tolist() for step in range(first, last)]

    assert batches(0, 40)[25:] == batches(25, 40)


def test_a_vocabulary_is_trained_where_none_is_given_and_has_what_models_need(tmp_path):
    (tmp_path / "page.txt").write_text(PAGE * 20)
    data = opened(text_path=tmp_path / "page.txt")
    tokenizer = data.vocabulary.load()
    assert tokenizer.special_id("eos") is not None and 262 < data.vocab_size < 400
    assert {tokenizer.special_id(role) for role in ("cls", "sep", "mask", "pad")} == {0, 1, 2, 4}
    assert texts(data) == [(PAGE * 20).replace("\r\n", "\n").strip("\n")]


def test_the_vocabulary_of_the_model_that_is_trained_on(tmp_path, vocab):
    (tmp_path / "page.txt").write_text(PAGE)
    data = opened(text_path=tmp_path / "page.txt", init_from=str(vocab))
    assert data.vocabulary.digest() == Vocabulary(vocab).digest()


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(text_path="none.txt"), "--text_path: no file .*none.txt.*did you mean 'nine.txt'"),
        (dict(text_path="nine.txt,nine.txt"), "--text_path: .*nine.txt is there twice; a weight makes more of it"),
        (dict(text_path="nine.txt:0"), "the weight must be a number above 0"),
        (dict(text_path="empty.txt"), "there is no text"),
        (dict(text_path="blank.txt"), "there is no text"),
        (dict(text_path="binary.pdf"), "--text_path: .*binary.pdf is"),
        (dict(text_path="cut.gz"), "cut.gz: the file ends inside its compressed data; .*'prepare tokens --bad_input"),
        (
            dict(text_path="other.jsonl"),
            'other.jsonl line 1: is no JSON object with "text".*; it has content',
        ),
        (dict(text_path="tokens,tokens2"), "have different vocabularies: their numbers mean different tokens"),
        (
            dict(text_path="tokens", vocab_size=200),
            "--vocab_size 200 is smaller than the vocabulary of .*: give at least 276",
        ),
        (dict(text_path="tokens", eval_path="tokens2"), "--eval_path: .* have different vocabularies"),
        (dict(text_path="tokens", eval_path="tokens,nine.txt"), "an evaluation reads one file or folder"),
        (dict(text_path="tokens", eval_every=5), "--eval_every 5: which text is held out from --text_path?"),
        (dict(text_path="nine.txt", vocab="nothing"), "cannot read the vocabulary .*nothing"),
        (dict(text_path="nine.txt", vocab_size=100), "a vocabulary of 100 tokens is too small"),
        (dict(text_path="tokens", init_from="other"), "was made with another vocabulary than that of --init_from"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(map(str, value.values())),
)
def test_what_users_get_wrong_is_one_line(tmp_path, vocab, monkeypatch, changes, says):
    monkeypatch.chdir(tmp_path)
    write_tokens(tmp_path / "tokens", vocab)
    write_tokens(tmp_path / "tokens2", write_byte_bpe(tmp_path / "other", special=["</s>"]))
    files = {"nine.txt": b"nine " * 9, "empty.txt": b"", "blank.txt": b"\n \n", "binary.pdf": b"%PDF-1.4\n\0\1\2" * 99}
    files["cut.gz"] = gzip.compress(bytes(range(32, 127)) * 999)[:200]
    files["other.jsonl"] = b'{"content": "x"}\n'
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    split = "eval" if "eval_path" in changes or "eval_every" in changes else "train"
    with pytest.raises((UsageError, RunError), match=says):
        opened(split, **{"text_path": "nine.txt", **changes})
