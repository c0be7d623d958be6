"""WordPiece, and the masked-word and next-sentence examples made with it."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from shared_data import shared

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.datasets.wiki_ofrecord.examples import Document, Documents, ExampleMaker, ExampleSettings
from pipeloom.plugins.libraries.text.tokenization import SPECIAL_TOKENS, WordPieceTokenizer, train_wordpiece

pytestmark = pytest.mark.fast

WORDS_PER_DOCUMENT = 400
TEXT = [
    "The quick brown fox jumps over the lazy dog.",
    "Foxes are quicker than dogs; dogs are lazier.",
    "Ünïcode and the 漢字 of others, too.",
] * 3


def vocabulary(num_words: int) -> WordPieceTokenizer:
    """[UNK] and [MASK] at the end: nothing may count on the special tokens being the first ones."""
    return WordPieceTokenizer.of(["[PAD]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(num_words)), "[UNK]", "[MASK]"])


class Listed(Document):
    """A document in memory."""

    def __init__(self, sentences):
        self._sentences = sentences
        self.sizes = np.array([len(sentence) for sentence in sentences])

    def tokens(self, first, end):
        return [token for sentence in self._sentences[first:end] for token in sentence]


class Library(Documents):
    def __init__(self, documents):
        self.documents = [Listed(document) for document in documents]

    def other_than(self, index, rng):
        others = [document for number, document in enumerate(self.documents) if number != index]
        return others[int(rng.integers(len(others)))]


def examples_of(maker, documents, rng, copies=1):
    library = Library(documents)
    return [
        example
        for _ in range(copies)
        for index, document in enumerate(library.documents)
        for example in maker.examples(document, index, library, rng)
    ]


def pairs_of(maker, documents, index, rng):
    library = Library(documents)
    return list(maker.pairs(library.documents[index], index, library, rng))


@pytest.fixture(scope="module")
def made():
    """Examples of 20 documents whose token ids never repeat and only rise: every token tells where it is from."""
    documents = []
    for number in range(20):
        ids = iter(range(3 + number * WORDS_PER_DOCUMENT, 3 + (number + 1) * WORDS_PER_DOCUMENT))
        lengths = np.random.default_rng(number).integers(1, 30, size=WORDS_PER_DOCUMENT)
        documents.append([s for s in (list(islice(ids, n)) for n in lengths) if s])
    tokenizer = vocabulary(20 * WORDS_PER_DOCUMENT)
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=64, max_predictions=12))
    return tokenizer, documents, examples_of(maker, documents, np.random.default_rng(0), copies=8)


def restored(example) -> np.ndarray:
    ids = example["input_ids"].copy()
    count = int(example["masked_lm_weights"].sum())
    ids[example["masked_lm_positions"][:count]] = example["masked_lm_ids"][:count]
    return ids


def test_fields_have_the_shapes_of_the_public_set(made):
    expected = {
        "input_ids": ("int32", 64),
        "input_mask": ("int32", 64),
        "segment_ids": ("int32", 64),
        "masked_lm_positions": ("int32", 12),
        "masked_lm_ids": ("int32", 12),
        "masked_lm_weights": ("float32", 12),
        "next_sentence_labels": ("int32", 1),
    }
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
    assert abs(np.mean(labels) - 0.5) < 0.04 and len(labels) > 1400  # 3 standard deviations


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
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=32, max_predictions=20))
    seen = set()
    for example in examples_of(maker, [[[3, 4, 5] * 5] * 2, [[5, 4, 3] * 5]], np.random.default_rng(0), copies=100):
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
    pairs = pairs_of(maker, documents, 0, np.random.default_rng(1))
    assert {is_random for _, _, is_random in pairs} == {True, False}
    used = [token for first, second, is_random in pairs for token in first + ([] if is_random else second)]
    assert used == list(range(3, 503))


def test_both_ends_are_truncated_and_both_segments_remain():
    documents = [[list(range(3, 203)), list(range(203, 403))], [list(range(403, 803))]]
    maker = ExampleMaker(vocabulary(800), ExampleSettings(seq_length=32))
    pairs = [pair for seed in range(30) for pair in pairs_of(maker, documents, 0, np.random.default_rng(seed))]
    assert all(len(first) + len(second) == 29 for first, second, _ in pairs)
    assert all(
        min(len(first), len(second)) >= 14 for first, second, is_random in pairs if is_random or first[0] < 203
    )  # not of a lone one
    assert any(first[0] > 3 for first, _, _ in pairs) and any(first[-1] < 202 for first, _, _ in pairs)


def test_the_same_generator_gives_the_same_examples(made):
    tokenizer, documents, examples = made
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=64, max_predictions=12))
    again = examples_of(maker, documents, np.random.default_rng(0))
    for one, other in zip(again, examples):
        assert all((one[name] == other[name]).all() for name in one)
    other_seed = examples_of(maker, documents, np.random.default_rng(1))
    assert any((one["input_ids"] != other["input_ids"]).any() for one, other in zip(again, other_seed))


def test_a_lone_sentence_has_a_fair_label_too():
    """Were its pair always a random one, the labels would tell the lengths of documents."""
    maker = ExampleMaker(vocabulary(100), ExampleSettings(seq_length=64))
    documents = [[list(range(3, 43))], [list(range(43, 83))]]
    pairs = [pair for seed in range(400) for pair in pairs_of(maker, documents, 0, np.random.default_rng(seed))]
    assert 160 < sum(is_random for _, _, is_random in pairs) < 240
    assert all(first + second == documents[0][0] for first, second, is_random in pairs if not is_random)
    single = pairs_of(maker, [[[3]], [[4]]], 0, np.random.default_rng(0))
    assert single == [([3], [4], True)]  # one token cannot be two spans


def test_whole_words_are_masked_or_left_whole():
    """Words of one to four pieces; a word is told by its beginning."""
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *(f"w{i}" for i in range(50)),
        *(f"##{i}" for i in range(50)),
    ]
    tokenizer = WordPieceTokenizer.of(tokens)
    maker = ExampleMaker(tokenizer, ExampleSettings(seq_length=64, max_predictions=9, whole_word_masking=True))
    rng = np.random.default_rng(0)
    word = lambda: [int(rng.integers(5, 55)), *rng.integers(55, 105, size=rng.integers(0, 4)).tolist()]
    documents = [[[piece for _ in range(6) for piece in word()] for _ in range(60)] for _ in range(4)]
    counts = []
    for example in examples_of(maker, documents, np.random.default_rng(0), copies=3):
        ids, count = restored(example), int(example["masked_lm_weights"].sum())
        masked = np.zeros(64, bool)
        masked[example["masked_lm_positions"][:count]] = True
        for position in range(1, int(example["input_mask"].sum())):
            if ids[position] >= 55 and ids[position - 1] >= 5:  # goes on with the word before it
                assert masked[position] == masked[position - 1]
        counts.append(count)
    assert max(counts) == 9 and np.mean(counts) > 8
    long = examples_of(maker, [[[5, *[60] * 40]], [[6]]], np.random.default_rng(0))[0]  # a word that has no room
    assert 1 <= long["masked_lm_weights"].sum() <= 9


def test_sizes_that_cannot_be_are_one_line():
    with pytest.raises(UsageError, match="--seq_length 4 .* at least 5"):
        ExampleSettings(seq_length=4)
    with pytest.raises(UsageError, match="--max_predictions 0 .* at least 1"):
        ExampleSettings(max_predictions=0)


def test_the_smallest_examples_are_whole():
    maker = ExampleMaker(vocabulary(20), ExampleSettings(seq_length=5, max_predictions=20))
    for example in examples_of(maker, [[[3, 4, 5], [6]], [[7], [8, 9]]], np.random.default_rng(0), copies=20):
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
    code = (
        "from test_examples import *\nimport hashlib\nfrom pydoc_data.topics import topics\n"
        "text = [topics[name] for name in ('types', 'typesseq', 'strings')]\n"
        "print(hashlib.md5(repr(train_wordpiece(text, 2000).tokens).encode()).hexdigest())"
    )
    outputs = set()
    for seed in ("0", "1", "2"):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        outputs.add(subprocess.run([sys.executable, "-c", code], check=True, env=env, stdout=subprocess.PIPE).stdout)
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "content, says",
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n", r"vocab.txt has no \[MASK\]"),
        (b"\xff\xfe", "vocab.txt is not UTF-8"),
    ],
)
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
