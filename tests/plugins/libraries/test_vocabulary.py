"""The vocabulary of a model's text: from the dataset into checkpoints, and from folders back to whoever has text."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoints import save_alone

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.checkpoint.describe import texts_of
from pipeloom.core.checkpoint.manifest import BadCheckpoint, verify
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.dataset import FirstSamples
from pipeloom.plugins.datasets import wiki_ofrecord
from pipeloom.plugins.libraries.huggingface.source import vocabulary_of, vocabulary_of_run
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast


def dataset(vocabulary):
    return SimpleNamespace(vocabulary=vocabulary)


@pytest.mark.parametrize("lowercase", [True, False, None])
def test_a_checkpoint_has_what_text_needs_as_a_huggingface_folder_has_it(tmp_path, lowercase):
    (tmp_path / "words").write_bytes("[PAD]\nmüde\n".encode())
    texts = texts_of(dataset(Vocabulary(tmp_path / "words", lowercase)))
    tokenizer = (
        {}
        if lowercase is None
        else {"tokenizer_config.json": b'{"do_lower_case": %s}\n' % str(lowercase).lower().encode()}
    )
    assert texts == {"vocab.txt": "[PAD]\nmüde\n".encode(), **tokenizer}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    assert vocabulary_of(str(tmp_path)) == Vocabulary(tmp_path) and Vocabulary(tmp_path).read().lowercase == lowercase


def test_a_dataset_that_knows_of_no_text_adds_nothing():
    assert texts_of(dataset(None)) == {}


def test_a_vocabulary_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(RunError, match="^cannot read the vocabulary .*/vocab.txt: No such file or directory$"):
        texts_of(dataset(Vocabulary(tmp_path / "vocab.txt", True)))


def test_it_is_covered_by_the_checksums(tmp_path):
    save_alone(tmp_path, 3)
    folder = tmp_path / "checkpoints" / "step_0000003"
    assert verify(folder).files["vocab.txt"].tensors == [] and (folder / "vocab.txt").read_bytes() == b"[PAD]\n"
    assert vocabulary_of(str(tmp_path)) == vocabulary_of(str(folder)) == Vocabulary(folder)
    (folder / "vocab.txt").write_bytes(b"[UNK]\n")
    with pytest.raises(BadCheckpoint, match=r"vocab.txt is damaged \(its checksum differs\)"):
        verify(folder)


def test_the_embedded_sample_knows_its_own():
    config = parse(["--plugins", "inter_first,bert,wiki_ofrecord"])[0]
    data = wiki_ofrecord.pipeloom_open_dataset(config=config, split="train")
    assert (
        data.vocabulary == Vocabulary(data.path / "vocab.txt", True)
        and FirstSamples(data, 3).vocabulary == data.vocabulary
    )
    assert len(data.vocabulary.path.read_text(encoding="utf-8").splitlines()) == data.vocab_size


@pytest.mark.parametrize(
    "content, found", [({"settings": {"lowercase": False}}, False), ({"settings": {}}, True), ([], None), (None, None)]
)
def test_beside_records_only_what_made_them_says_how(tmp_path, content, found):
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    if content is not None:
        (tmp_path / "meta.json").write_text(json.dumps(content))
    assert wiki_ofrecord._vocabulary(tmp_path) == Vocabulary(tmp_path / "vocab.txt", found)


@pytest.mark.parametrize("tokenizer", [None, "{}", '{"model_max_length": 512}'])
def test_a_tokenizer_that_says_nothing(tmp_path, tokenizer):
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    if tokenizer is not None:
        (tmp_path / "tokenizer_config.json").write_text(tokenizer)
    assert vocabulary_of(str(tmp_path)).read().lowercase is None and vocabulary_of(str(tmp_path)).lowercases() is True


def test_questions_are_read_as_the_model_was_trained(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    config = SimpleNamespace(vocab=None, init_from=str(tmp_path), lowercase=True)
    with pytest.raises(UsageError, match="was trained with lowercase false: leave --lowercase out, or"):
        vocabulary_of_run(config, Path("x.json"))
    for config.lowercase in (None, False):
        assert vocabulary_of_run(config, Path("x.json")) == Vocabulary(tmp_path, config.lowercase)


def test_a_tokenizer_as_the_contract_has_it():
    tokenizer = WordPieceTokenizer.of("[PAD] [UNK] [CLS] [SEP] [MASK] hello world ##s ,".split())
    ids, offsets = tokenizer.encode_with_offsets("Hello, worlds")
    assert (ids, offsets) == ([5, 8, 6, 7], [(0, 5), (5, 6), (7, 12), (12, 13)])
    assert tokenizer.decode([2, *ids, 3, 0]) == "hello, worlds"
    roles = ("pad", "unk", "cls", "sep", "mask")
    assert [tokenizer.special_id(role) for role in roles] == [0, 1, 2, 3, 4] and tokenizer.special_id("eos") is None
    assert len(tokenizer) == 9
