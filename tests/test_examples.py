"""WordPiece, and the masked-word and next-sentence examples made with it."""
from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from pipeloom.core.data.examples import ExampleMaker, ExampleSettings
from pipeloom.core.data.tokenization import SPECIAL_TOKENS, WordPieceTokenizer, train_wordpiece
from pipeloom.core.errors import UsageError
from shared_data import shared

pytestmark = pytest.mark.fast

WORDS_PER_DOCUMENT = 400
TEXT = ["The quick brown fox jumps over the lazy dog.", "Foxes are quicker than dogs; dogs are lazier.",
        "Ünïcode and the 漢字 of others, too."] * 3


def vocabulary(num_words: int) -> WordPieceTokenizer:
    """[UNK] and [MASK] at the end: nothing may count on the special tokens being the first ones."""
    return WordPieceTokenizer(["[PAD]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(num_words)), "[UNK]", "[MASK]"])


@pytest.fixture(scope="module")
def made():
    """Examples of 20 documents whose token ids never repeat and only rise: every token tells where it is from."""
    documents = []
    for number in range(20):
        ids = iter(range(3 + number * WORDS_PER_DOCUMENT, 3 + (number + 1) * WORDS_PER_DOCUMENT))
        lengths = np.random.default_rng(number).integers(1, 30, size=WORDS_PER_DOCUMENT)
        documents.append([s for s in (list(islice(ids, n)) for n in lengths) if s])
    tokenizer = vocabulary(20 * WORDS_PER_DOCUMENT)
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=64, max_predictions=12, dupe_factor=8))
    return tokenizer, documents, list(maker.examples(documents, np.random.default_rng(0)))


def restored(example) -> np.ndarray:
    ids = example["input_ids"].copy()
    count = int(example["masked_lm_weights"].sum())
    ids[example["masked_lm_positions"][:count]] = example["masked_lm_ids"][:count]
    return ids


def test_fields_have_the_shapes_of_the_public_set(made):
    expected = {"input_ids": ("int32", 64), "input_mask": ("int32", 64), "segment_ids": ("int32", 64),
                "masked_lm_positions": ("int32", 12), "masked_lm_ids": ("int32", 12),
                "masked_lm_weights": ("float32", 12), "next_sentence_labels": ("int32", 1)}
    for example in made[2]:
        assert {name: (array.dtype.name, array.size) for name, array in example.items()} == expected


def test_an_example_is_cls_a_sep_b_sep_and_padding(made):
    tokenizer, _, examples = made
    for example in examples:
        length = int(example["input_mask"].sum())
        ids, segments = restored(example), example["segment_ids"]
        assert (example["input_mask"][:length] == 1).all() and (ids[length:] == tokenizer.pad_id).all()
        first_sep, last_sep = np.flatnonzero(ids == tokenizer.sep_id)
        assert np.flatnonzero(ids == tokenizer.cls_id).tolist() == [0]
        assert 1 < first_sep < last_sep - 1 and last_sep == length - 1
        assert (segments == ((np.arange(64) > first_sep) & (np.arange(64) < length))).all()


def test_the_label_tells_whether_b_follows_a(made):
    tokenizer, _, examples = made
    labels = []
    for example in examples:
        ids = restored(example)
        first_sep, last_sep = np.flatnonzero(ids == tokenizer.sep_id)
        first, second = ids[1:first_sep], ids[first_sep + 1 : last_sep]
        for segment in (first, second):
            assert (np.diff(segment) == 1).all()  # neighbouring words of one document
        follows = (first[-1] - 3) // WORDS_PER_DOCUMENT == (second[0] - 3) // WORDS_PER_DOCUMENT
        assert not follows or second[0] > first[-1]
        labels.append(int(example["next_sentence_labels"][0]))
        assert labels[-1] == (0 if follows else 1)
    assert 0.45 < np.mean(labels) < 0.6


def test_masking_is_80_10_10_of_15_percent(made):
    tokenizer, _, examples = made
    masked = kept = replaced = 0
    for example in examples:
        length = int(example["input_mask"].sum())
        count = int(example["masked_lm_weights"].sum())
        assert count == min(12, max(1, round(0.15 * length)), length - 3)
        assert (example["masked_lm_weights"][:count] == 1).all()
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            assert (example[name][count:] == 0).all()
        positions, originals = example["masked_lm_positions"][:count], example["masked_lm_ids"][:count]
        assert (np.diff(positions) > 0).all() and positions[0] > 0 and positions[-1] < length - 1
        assert not np.isin(originals, tokenizer.special_ids).any()
        seen = example["input_ids"][positions]
        masked += (seen == tokenizer.mask_id).sum()
        kept += (seen == originals).sum()
        random = seen[(seen != tokenizer.mask_id) & (seen != originals)]
        assert not np.isin(random, tokenizer.special_ids).any()
        replaced += len(random)
    total = masked + kept + replaced
    assert total > 8000
    assert abs(masked / total - 0.8) < 0.02 and abs(kept / total - 0.1) < 0.015 and abs(replaced / total - 0.1) < 0.015


def test_a_random_word_is_never_a_special_token():
    """With three words among eight tokens, most of the random picks would be special ones."""
    tokenizer = vocabulary(3)
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=32, max_predictions=20, dupe_factor=100))
    seen = set()
    for example in maker.examples([[[3, 4, 5] * 5] * 2, [[5, 4, 3] * 5]], np.random.default_rng(0)):
        count = int(example["masked_lm_weights"].sum())
        seen.update(example["input_ids"][example["masked_lm_positions"][:count]].tolist())
    assert seen == {3, 4, 5, tokenizer.mask_id}


def test_some_examples_are_short_and_most_are_full(made):
    lengths = np.array([example["input_mask"].sum() for example in made[2]])
    assert lengths.max() == 64 and np.median(lengths) == 64
    assert 0.03 < (lengths < 50).mean() < 0.25


def test_no_sentence_is_lost_to_a_random_pair():
    """One-word sentences fill the target exactly, so that nothing is truncated."""
    documents = [[[token] for token in range(start, start + 500)] for start in (3, 503)]
    maker = ExampleMaker(vocabulary(1000), ExampleSettings(seq_length=32))
    pairs = list(maker.pairs(documents, 0, np.random.default_rng(1)))
    assert {is_random for _, _, is_random in pairs} == {True, False}
    used = [token for first, second, is_random in pairs for token in first + ([] if is_random else second)]
    assert used == list(range(3, 503))


def test_both_ends_are_truncated_and_both_segments_remain():
    documents = [[list(range(3, 203)), list(range(203, 403))], [list(range(403, 803))]]
    maker = ExampleMaker(vocabulary(800), ExampleSettings(seq_length=32))
    pairs = [pair for seed in range(30) for pair in maker.pairs(documents, 0, np.random.default_rng(seed))]
    assert all(len(first) + len(second) == 29 and min(len(first), len(second)) >= 14 for first, second, _ in pairs)
    assert any(first[0] > 3 for first, _, _ in pairs) and any(first[-1] < 202 for first, _, _ in pairs)


def test_the_same_generator_gives_the_same_examples(made):
    tokenizer, documents, examples = made
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=64, max_predictions=12, dupe_factor=1))
    again = list(maker.examples(documents, np.random.default_rng(0)))
    for one, other in zip(again, examples):
        assert all((one[name] == other[name]).all() for name in one)
    other_seed = list(maker.examples(documents, np.random.default_rng(1)))
    assert any((one["input_ids"] != other["input_ids"]).any() for one, other in zip(again, other_seed))


@pytest.mark.parametrize("documents", [[], [[[3, 4]]], [[[3, 4]], [], [[]]]])
def test_one_document_is_not_enough(documents):
    maker = ExampleMaker(vocabulary(10), ExampleSettings())
    with pytest.raises(UsageError, match="at least 2 documents"):
        list(maker.examples(documents, np.random.default_rng(0)))


def test_sizes_that_cannot_be_are_one_line():
    with pytest.raises(UsageError, match="--seq_length 4 .* at least 5"):
        ExampleSettings(seq_length=4)
    with pytest.raises(UsageError, match="--max_predictions 0 .* at least 1"):
        ExampleSettings(max_predictions=0)


def test_the_smallest_examples_are_whole():
    maker = ExampleMaker(vocabulary(20), ExampleSettings(seq_length=5, max_predictions=20, dupe_factor=20))
    for example in maker.examples([[[3, 4, 5], [6]], [[7], [8, 9]]], np.random.default_rng(0)):
        assert example["input_mask"].sum() == 5 and example["masked_lm_weights"].sum() == 1


def test_a_trained_vocabulary_begins_with_the_special_tokens(tmp_path):
    tokenizer = train_wordpiece(TEXT, 120)
    assert tuple(tokenizer.tokens[:5]) == SPECIAL_TOKENS and tokenizer.special_ids == [0, 1, 2, 3, 4]
    assert len(set(tokenizer.tokens)) == len(tokenizer) <= 120
    ids = tokenizer.encode("The quick FOX, unicode")
    assert "".join(tokenizer.tokens[i].replace("##", "") for i in ids) == "thequickfox,unicode"
    assert tokenizer.encode_batch(["The quick", "FOX"]) == [tokenizer.encode("the quick"), tokenizer.encode("fox")]
    assert not set(tokenizer.encode("[CLS] a [MASK] [SEP]")) & {2, 3, 4}
    tokenizer.save(tmp_path / "vocab.txt")
    loaded = WordPieceTokenizer.load(tmp_path / "vocab.txt")
    assert loaded.tokens == tokenizer.tokens and loaded.encode(TEXT[0]) == tokenizer.encode(TEXT[0])


def test_training_is_the_same_in_every_process():
    """The trainer's own hash tables have a random seed: three processes are what shows it."""
    code = ("from test_examples import *\nimport hashlib\nfrom pydoc_data.topics import topics\n"
            "text = [topics[name] for name in ('types', 'typesseq', 'strings')]\n"
            "print(hashlib.md5(repr(train_wordpiece(text, 2000).tokens).encode()).hexdigest())")
    outputs = set()
    for seed in ("0", "1", "2"):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        outputs.add(subprocess.run([sys.executable, "-c", code], check=True, env=env, stdout=subprocess.PIPE).stdout)
    assert len(outputs) == 1


@pytest.mark.parametrize("content, says", [
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n", r"vocab.txt has no \[MASK\]"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\n", "vocab.txt has the token 'the' twice"),
    (b"\xff\xfe", "vocab.txt is not UTF-8"),
])
def test_a_bad_vocabulary_is_one_line(tmp_path, content, says):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        WordPieceTokenizer.load(tmp_path / "vocab.txt")
    with pytest.raises(UsageError, match="cannot read the vocabulary .*absent.txt: No such file"):
        WordPieceTokenizer.load(tmp_path / "absent.txt")


def test_a_vocabulary_too_small_for_the_characters_is_one_line():
    with pytest.raises(UsageError, match="a vocabulary of 10 tokens is too small"):
        train_wordpiece(TEXT, 10)


def test_the_public_vocabulary_splits_as_bert_does():
    tokenizer = WordPieceTokenizer.load(shared("bert-base-uncased-vocab.txt"))
    assert len(tokenizer) == 30522 and tokenizer.special_ids == [0, 100, 101, 102, 103]
    tokens = [tokenizer.tokens[i] for i in tokenizer.encode("Unaffable, naïve embeddings!")]
    assert tokens == ["una", "##ffa", "##ble", ",", "naive", "em", "##bed", "##ding", "##s", "!"]
