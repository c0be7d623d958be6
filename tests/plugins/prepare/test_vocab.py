"""``prepare vocab``: what it trains on, that it is the same in every process, its files, its errors."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tokenizers
from jobs import ROOT, environment
from preparations import arguments as pretraining
from preparations import records

from pipeloom.core.base import files
from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import main
from pipeloom.plugins.libraries.corpus.documents import SentenceDocument
from pipeloom.plugins.libraries.text.byte_bpe import SPECIAL_TOKENS, files_of, train_byte_bpe
from pipeloom.plugins.libraries.text.tokenization import SPECIAL_TOKENS as WORDPIECE_SPECIAL
from pipeloom.plugins.libraries.text.tokenization import Characters, WordPieceTokenizer
from pipeloom.plugins.prepare import vocab
from pipeloom.plugins.prepare.text_sample import TextSample, sample_text

fast = pytest.mark.fast


def command(texts, out, *more, inputs=("a.jsonl", "books/*.txt")):
    given = ["--input", *(str(texts / name) for name in inputs), "--output", str(out)]
    return ["prepare", "vocab", *given, "--workers", "0", "--min_characters", "50", *more]


# --- what is trained on


def documents(count):
    return [SentenceDocument((f"document {number}", "x" * (number % 7 * 20 + 1))) for number in range(count)]


def sampled(tmp_path, limit, count=200, seed=3, workers=0):
    sample = TextSample(limit, tmp_path)
    sample_text([documents(count)], [sample], ("en", 0), seed, workers, lambda number: None)
    return sample


@fast
def test_a_sample_is_within_its_limit_and_in_the_order_of_the_documents(tmp_path):
    everything, sample = list(sampled(tmp_path, 1e9)), sampled(tmp_path, 2000)
    assert everything == [
        text for document in documents(200) for text in (document.sentences[0], " " + document.sentences[1])
    ]
    kept = list(sample)
    assert 1800 < sum(map(len, kept)) <= sample.characters <= 2000 and len(kept) == 2 * len(sample)
    numbers = [int(text.split()[1]) for text in kept[::2]]
    assert numbers == sorted(numbers) and kept == [
        text for number in numbers for text in everything[2 * number : 2 * number + 2]
    ]
    assert list(sample) == kept and list(tmp_path.iterdir()) == []


@fast
def test_documents_are_chosen_by_the_seed_alone_each_as_often_as_another(tmp_path, monkeypatch):
    first = list(sampled(tmp_path, 2000))
    monkeypatch.setattr("pipeloom.plugins.prepare.text_sample._CHUNK_CHARACTERS", 100)
    assert list(sampled(tmp_path, 2000)) == first and list(sampled(tmp_path, 2000, seed=4)) != first
    chosen = Counter(
        int(text.split()[1]) for seed in range(300) for text in list(sampled(tmp_path, 1400, 40, seed))[::2]
    )
    mean = np.mean([chosen[number] for number in range(40)])
    assert 60 < mean < 240 and all(abs(chosen[number] - mean) < 45 for number in range(40))  # 5 standard deviations


@fast
def test_what_will_not_be_kept_is_not_split(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeloom.plugins.prepare.text_sample._CHUNK_CHARACTERS", 100)
    split = []
    monkeypatch.setattr(
        "pipeloom.plugins.libraries.corpus.sentences.SentenceSplitter.__call__",
        lambda self, document, counts: split.append(1) or ["x" * 100],
    )
    sample = sampled(tmp_path, 1000, 5000)
    assert len(sample) == 10 and 10 < len(split) < 150  # 10 * (1 + log 500) = 72


@fast
def test_one_document_stays_however_long_it_is(tmp_path):
    sample = TextSample(10, tmp_path)
    for key in (0.5, 0.2, 0.9):
        sample.add(key, [f"a document of the key {key}"])
    assert list(sample) == ["a document of the key 0.2"] and sample.bar == 0.5


@fast
def test_an_endless_word_is_trained_on_in_pieces():
    assert list(vocab._Sentences([["a b", "x" * 2500]])) == ["a b", " ".join(["x" * 1000, "x" * 1000, "x" * 500])]


# --- which characters


@pytest.fixture
def many_characters(tmp_path):
    """3,000 ideographs, each a word for the tokenizer: the first one 3,000 times, the last ones once or twice."""
    lines = ["".join(chr(0x4E00 + place) for place in range(0, 3000, 1 + number)) for number in range(40)]
    (tmp_path / "a.txt").write_text("\n".join(f"{line}\u3002" for line in [*lines, *["\u4e00" * 99] * 30]))
    return tmp_path


@fast
def test_all_characters_that_fit_are_kept(many_characters, capsys):
    assert main(command(many_characters, many_characters / "out", "--vocab_size", "8000", inputs=("a.txt",))) == 0
    said = capsys.readouterr().out
    tokenizer = WordPieceTokenizer.load(many_characters / "out" / "vocab.txt")
    assert len(tokenizer) == 3006 and tokenizer.unk_id not in tokenizer.encode((many_characters / "a.txt").read_text())
    assert "all 3,001 characters of the text are in it\n" in said and "[UNK]" not in said
    assert "the text has no more tokens that occur --min_frequency 2 times: --vocab_size 8000 was not reached" in said


@fast
@pytest.mark.parametrize(
    "more, size, missing",
    [
        (["--vocab_size", "3004"], 3004, "2 of the 3,001 characters of the text, 0.0126 % of it, are not in it"),
        (["--vocab_size", "8000", "--limit_alphabet", "1000"], 1005, "2,001 of the 3,001 characters"),
    ],
)
def test_characters_without_a_place_are_said(many_characters, capsys, more, size, missing):
    assert main(command(many_characters, many_characters / "out", *more, inputs=("a.txt",))) == 0
    said = capsys.readouterr().out
    assert len((many_characters / "out" / "vocab.txt").read_text().split()) == size
    assert missing in said
    assert re.search(r"a word between spaces takes .* tokens, [\d.]+ % of them \[UNK\]\n", said)


@fast
def test_rare_characters_of_a_large_text_have_no_place():
    common = {chr(97 + number): 1_000_000 for number in range(10)}
    characters = Characters(Counter({**common, "\u4e00": 11, "\u4e01": 9, "\u4e02": 1}), {"a", "\u4e00"})
    assert characters.chosen(100) == [*common, "\u4e00", "\u4e01", "\u4e02"] and characters.chosen(15, 12) == [
        *common,
        "\u4e00",
        "\u4e01",
    ]
    assert characters.chosen(50) == [*common, "\u4e00"] and [*map(characters.is_rare, "a\u4e00\u4e01")] == [
        False,
        False,
        True,
    ]
    assert characters.chosen(12) == [*common, "\u4e00"][:10] and characters.chosen(5) == list(
        common
    )  # these are more than can be given up


# --- the same in every process

TIES = """
import hashlib, itertools
from pipeloom.plugins.libraries.text.byte_bpe import files_of, train_byte_bpe
from pipeloom.plugins.libraries.text.tokenization import train_wordpiece
words = ["".join(letters) for letters in itertools.product("abcdefg", repeat=4)]   # every pair as often as another
bpe = files_of(train_byte_bpe(words, 700, 1))
print(hashlib.md5(repr((train_wordpiece(words, 400, min_frequency=1).tokens, bpe)).encode()).hexdigest())
"""


def test_every_process_trains_the_same():
    runs = [
        subprocess.run(
            [sys.executable, "-c", TIES],
            cwd=ROOT,
            env=environment(PYTHONHASHSEED=seed),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for seed in ("1", "2", "3")
    ]
    assert len({run.stdout for run in runs}) == 1 and len(runs[0].stdout) == 33


def test_workers_change_nothing(texts, tmp_path):
    more = ["--vocab_size", "500", "--sample_characters", "20000"]
    for workers in ("0", "2"):
        assert main(command(texts, tmp_path / workers, *more, "--workers", workers)) == 0
    assert (tmp_path / "0" / "vocab.txt").read_bytes() == (tmp_path / "2" / "vocab.txt").read_bytes()


# --- the files


@fast
def test_wordpiece_is_a_vocabulary_that_pretraining_takes(texts, tmp_path, capsys):
    assert main(command(texts, tmp_path / "new" / "out", "--vocab_size", "600")) == 0
    said = capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["vocab.txt"]
    tokens = WordPieceTokenizer.load(tmp_path / "new" / "out" / "vocab.txt").tokens
    assert len(tokens) == 600 and tuple(tokens[:5]) == WORDPIECE_SPECIAL and "the" in tokens
    assert not any(re.search("[A-Z]", token) for token in tokens[5:])
    assert "training on 22 documents with" in said
    assert re.search(r"vocab.txt: 600 tokens in .* s; a word between spaces takes [12]\.\d+ tokens\n", said)
    (tmp_path / "vocab.txt").write_bytes((tmp_path / "new" / "out" / "vocab.txt").read_bytes())
    given = pretraining(texts, tmp_path / "data")
    given[given.index("--vocab") + 1] = str(tmp_path / "new" / "out" / "vocab.txt")
    assert main([*given, "--dupe_factor", "1"]) == 0
    assert 500 < max(record["input_ids"].max() for record in records(tmp_path / "data")) < 600


@fast
def test_options_have_an_effect(texts, tmp_path):
    made = {}
    few = ["--sample_characters", "5000"]
    for name, more in {
        "usual": [],
        "cased": ["--lowercase", "false"],
        "frequent": ["--min_frequency", "200"],
        "little": few,
        "other": [*few, "--seed", "2"],
    }.items():
        assert main(command(texts, tmp_path / name, "--vocab_size", "500", *more)) == 0
        made[name] = (tmp_path / name / "vocab.txt").read_text().split("\n")
    assert "The" in made["cased"] and "The" not in made["usual"]
    assert len(made["frequent"]) < 400 and len({tuple(tokens) for tokens in made.values()}) == 5


@fast
def test_weights_are_shares_of_the_characters(texts, tmp_path, capsys):
    """Of two inputs with other letters each, of which the first has twenty times less."""
    for name, word, count in (("a", "aa", 30), ("b", "bb", 600)):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": [f"{word} " * 20]}) + "\n" for _ in range(count))
        )
    inputs = ("a.jsonl:0.25", "b.jsonl:0.75")
    assert main(command(tmp_path, tmp_path / "out", "--vocab_size", "20", inputs=inputs)) == 0
    assert "training on 120 documents with 7,200 characters" in capsys.readouterr().out
    (tmp_path / "a.jsonl").write_text('{"text": ""}')
    assert main(command(tmp_path, tmp_path / "none", inputs=inputs)) == 2
    assert (
        re.search("--input: no document with text in .*a.jsonl\n$", capsys.readouterr().err)
        and not (tmp_path / "none").exists()
    )


def by_hand(numbers, merges, text):
    """GPT-2's encoder, for words of ASCII letters: always the pair that was merged first (github.com/openai/gpt-2,
    src/encoder.py).
    """
    ranks, ids = {pair: rank for rank, pair in enumerate(merges)}, []
    for word in re.findall(" ?[A-Za-z]+", text):
        pieces = list(word.replace(" ", "\u0120"))
        while len(pieces) > 1:
            best = min(zip(pieces, pieces[1:]), key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            joined, position = [], 0
            while position < len(pieces):
                size = 2 if tuple(pieces[position : position + 2]) == best else 1
                joined.append("".join(pieces[position : position + size]))
                position += size
            pieces = joined
        ids += [numbers[piece] for piece in pieces]
    return ids


@fast
def test_bpe_has_the_files_of_gpt2_and_roberta(texts, tmp_path):
    assert main(command(texts, tmp_path, "--kind", "bpe", "--vocab_size", "600")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merges.txt", "vocab.json"]
    numbers = json.loads((tmp_path / "vocab.json").read_text())
    header, *lines = (tmp_path / "merges.txt").read_text().splitlines()
    merges = [tuple(line.split(" ")) for line in lines]
    assert (
        header == "#version: 0.2"
        and sorted(numbers.values()) == list(range(600))
        and list(numbers)[:6] == list(SPECIAL_TOKENS)
    )
    assert len(merges) == 600 - 256 - 6 and [numbers["".join(pair)] for pair in merges] == list(range(262, 600))
    loaded = tokenizers.ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    text = "The value of an expression is the object that it evaluates to and zzyzx"
    assert loaded.encode(text).ids == by_hand(numbers, merges, text)
    strange = "na\u00efve \u4e2d\u6587 \U0001f600\tx\r\n  y"
    assert loaded.decode(loaded.encode(strange).ids) == strange


def merges_of(texts, *settings):
    return files_of(train_byte_bpe(texts, *settings))["merges.txt"].decode().splitlines()[1:]


@fast
def test_bpe_breaks_ties_by_the_bytes():
    assert merges_of(["ab cd", "cd ab"] * 3, 263) == ["a b"]


@fast
def test_bpe_merges_what_is_there_often_enough_and_adds_no_space():
    assert merges_of(["ab", "ab", "cd"], 264) == ["a b"] and merges_of(["ab", "ab", "cd"], 264, 1) == ["a b", "c d"]
    assert merges_of(["ab", " ab"], 300) == ["a b"]


# --- what cannot be


@fast
@pytest.mark.parametrize(
    "more, says",
    [
        (
            ["--kind", "bpe", "--lowercase", "true"],
            "^--lowercase is for --kind wordpiece: byte-level BPE keeps every byte; leave it out$",
        ),
        (["--vocab_size", "20"], "a vocabulary of 20 tokens is too small for the "),
        (
            ["--kind", "bpe", "--vocab_size", "261"],
            "a vocabulary of 261 tokens is too small for the 256 bytes and 6 special tokens: give at least 262$",
        ),
        (
            ["--kind", "bpe", "--limit_alphabet", "9"],
            "^--limit_alphabet is for --kind wordpiece: byte-level BPE has the 256 bytes",
        ),
        (["--vocab_size", "20"], "give at least [0-9]+, or keep fewer characters with --limit_alphabet$"),
        (
            ["--min_characters", "100000000"],
            r"^--input has no document with text \(left out: 22 documents shorter than --min_characters\)$",
        ),
        (["--kind", "bp"], "invalid choice: 'bp'"),
        (["--min_frequence", "3"], "no option '--min_frequence' .did you mean '--min_frequency'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(texts, tmp_path, capsys, more, says):
    assert main(command(texts, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert (
        re.search(says, error.replace("pipeloom: ", "").replace("error: ", "").rstrip("\n")) and error.count("\n") == 1
    )
    assert list(tmp_path.iterdir()) == []


@fast
def test_a_vocabulary_that_is_there_stays_unless_told(texts, tmp_path, capsys):
    (tmp_path / "merges.txt").write_text("mine")
    assert main(command(texts, tmp_path, "--kind", "bpe", "--vocab_size", "300")) == 2
    assert (
        capsys.readouterr()
        .err.rstrip("\n")
        .endswith(f"--output: {tmp_path / 'merges.txt'} is there; give another folder, or --overwrite true")
    )
    assert (tmp_path / "merges.txt").read_text() == "mine"
    assert main(command(texts, tmp_path, "--vocab_size", "300")) == 0  # no file of that kind is there
    assert main(command(texts, tmp_path, "--kind", "bpe", "--vocab_size", "300", "--overwrite", "true")) == 0
    assert len((tmp_path / "merges.txt").read_text().splitlines()) == 39
    (tmp_path / "file").write_text("")
    assert main(command(texts, tmp_path / "file" / "out")) == 2 and "cannot be made" in capsys.readouterr().err


class Killed(BaseException):
    pass


@fast
@pytest.mark.parametrize("before", [True, False])
def test_files_are_whole_or_not_there(tmp_path, monkeypatch, before):
    """Killed at each write, flush, rename and removal, over another vocabulary or none: never half a file, nor two that
    do not fit.
    """
    old, new = ({"vocab.json": which * 10, "merges.txt": which * 20} for which in (b"old ", b"new "))
    points = []
    monkeypatch.setattr(files, "crossing", points.append)
    files.replace_files(tmp_path, old)
    files.replace_files(tmp_path, new)
    for number in range(len(points) // 2 + 10):
        for path in tmp_path.iterdir():
            path.unlink()
        if before:
            files.replace_files(tmp_path, old)
        left = [number]

        def crossing(point, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(files, "crossing", crossing)
            with contextlib.suppress(Killed):
                files.replace_files(tmp_path, new)
        found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith(".")}
        assert any(found.items() <= whole.items() for whole in (old, new)), number
    assert left[0] > 0 and found == new  # the last time nobody was killed


@fast
def test_too_little_text_is_said(texts, tmp_path, capsys):
    assert main(command(texts, tmp_path / "out", "--vocab_size", "100000")) == 0
    assert (
        "the text has no more tokens that occur --min_frequency 2 times: --vocab_size 100000 was not reached"
        in capsys.readouterr().out
    )
    with pytest.raises(UsageError, match="too small"):
        train_byte_bpe([], 100)
