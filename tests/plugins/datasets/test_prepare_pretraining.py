"""What ``prepare pretraining`` writes."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from jobs import ROOT, environment
from preparations import arguments, digest, records
from shared_data import shared

from pipeloom.core.commands.cli import main
from pipeloom.core.contract.arguments import Parser
from pipeloom.plugins.datasets.wiki_ofrecord import prepare as pretraining
from pipeloom.plugins.libraries.ofrecord.records import index_part


@pytest.mark.fast
def test_the_folder_has_equal_parts_and_says_what_is_in_them(made):
    meta = json.loads((made / "meta.json").read_text())
    found = list(records(made))
    sizes = [len(index_part(part)) for part in sorted(made.glob("part-*"))]
    assert (
        len(found) == meta["num_samples"] == meta["counts"]["samples"]
        and max(sizes) - min(sizes) <= 1
        and len(sizes) == 3
    )
    assert meta["vocab_size"] == 800 and meta["settings"]["seed"] == 1
    for name, count in (
        ("tokens", sum(int(record["input_mask"].sum()) for record in found)),
        ("predictions", sum(int(record["masked_lm_weights"].sum()) for record in found)),
        ("random next", sum(int(record["next_sentence_labels"][0]) for record in found)),
    ):
        assert meta["counts"][name] == count
    assert [source["documents"] for source in meta["sources"]] == [9, 13]
    assert [path.name for path in made.parent.iterdir()] == ["out"]  # nothing beside it


@pytest.mark.fast
def test_the_text_is_there_as_often_as_it_is_copied(made):
    """First segments, and second ones that follow, take the text once a copy; what is missing was truncated."""
    tokens = sum(source["tokens"] for source in json.loads((made / "meta.json").read_text())["sources"])
    used = 0
    for record in records(made):
        second = int(record["segment_ids"].sum()) - 1
        used += int(record["input_mask"].sum()) - 3 - (second if record["next_sentence_labels"][0] else 0)
    assert 0.6 < used / (5 * tokens) <= 1.0


@pytest.mark.fast
def test_a_seed_decides_and_copies_differ(made, texts, tmp_path):
    assert main(arguments(texts, tmp_path / "again")) == 0
    assert digest(tmp_path / "again") == digest(made)
    assert main(arguments(texts, tmp_path / "other", "--seed", "2")) == 0
    assert digest(tmp_path / "other") != digest(made)
    seen = {record["input_ids"].tobytes() for record in records(made)}
    assert len(seen) > 0.99 * len(list(records(made)))


@pytest.mark.fast
def test_a_folder_with_tokenizer_files_is_a_vocabulary(texts, tmp_path):
    """One as transformers 5 writes it. Its files lie beside the records, which the checks and a run then know."""
    from pipeloom.plugins.datasets.wiki_ofrecord import _vocab_size
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
    from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

    folder, out = tmp_path / "bert", tmp_path / "out"
    folder.mkdir()
    words = [*(texts / "vocab.txt").read_text().split(), "Python"]
    (folder / "tokenizer.json").write_text(WordPieceTokenizer.of(words).to_json())
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "mask_token": "python"}')
    assert (
        main(
            [
                "prepare",
                "pretraining",
                "--input",
                str(texts / "a.jsonl"),
                "--vocab",
                str(folder),
                "--output",
                str(out),
                "--workers",
                "0",
                "--parts",
                "1",
                "--dupe_factor",
                "1",
                "--seq_length",
                "64",
            ]
        )
        == 0
    )
    assert json.loads((out / "meta.json").read_text())["settings"]["lowercase"] is False
    seen = {number for record in records(out) for number in record["input_ids"].tolist()}
    assert {words.index("Python"), words.index("python")} <= seen and words.index("[MASK]") not in seen
    assert Vocabulary.beside(out).files() == {
        name: (folder / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")
    }
    assert _vocab_size(None, [out]) == len(words)
    assert main(["prepare", "validate", str(out)]) == 0 and main(["prepare", "inspect", str(out)]) == 0


#: What shows that an option has an effect. Where the others do: seed, workers, dupe_factor, vocab, input and output in
#: this file, bad_input and overwrite in test_prepare_refusals.py.
EFFECTS = {
    "seq_length": "32",
    "max_predictions": "3",
    "parts": "2",
    "short_seq_prob": "0",
    "masked_lm_prob": "0.05",
    "whole_word_masking": "true",
    "lowercase": "false",
    "language": "de",
    "text_documents": "blank_lines",
    "min_characters": "1000",
    "max_characters": "1000",
}
ELSEWHERE = {"text_key", "seed", "workers", "dupe_factor", "vocab", "input", "output", "bad_input", "overwrite", "help"}


@pytest.mark.fast
@pytest.mark.parametrize("name", EFFECTS)
def test_every_option_has_an_effect(texts, tmp_path, name):
    outs = []
    for number, more in enumerate(([], [f"--{name}", EFFECTS[name]])):
        outs.append(tmp_path / str(number))
        assert main(arguments(texts, outs[-1], "--dupe_factor", "1", *more, inputs=("books/*.txt",))) == 0
    parts = [b"".join(part.read_bytes() for part in sorted(out.glob("part-*"))) for out in outs]
    assert parts[0] != parts[1] or name == "parts" and len(list(outs[1].glob("part-*"))) == 2


@pytest.mark.fast
def test_the_text_may_have_another_key(texts, tmp_path):
    lines = [json.loads(line)["text"] for line in (texts / "a.jsonl").read_text().splitlines()]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"row": {"content": text}}) + "\n" for text in lines))
    (tmp_path / "vocab.txt").write_bytes((texts / "vocab.txt").read_bytes())
    for folder, more in ((texts, []), (tmp_path, ["--text_key", "row.content"])):
        assert (
            main(arguments(folder, tmp_path / f"out{len(more)}", "--dupe_factor", "1", *more, inputs=("a.jsonl",))) == 0
        )
    same = [
        b"".join(part.read_bytes() for part in sorted((tmp_path / f"out{count}").glob("part-*"))) for count in (0, 2)
    ]
    assert same[0] == same[1] != b""


@pytest.mark.fast
def test_no_option_is_without_such_a_test():
    parser = Parser()
    pretraining.add_arguments(parser)
    assert {action.dest for action in parser._actions} == {*EFFECTS, *ELSEWHERE}


@pytest.mark.fast
def test_weights_are_shares_of_the_tokens(texts, tmp_path):
    """Of what comes from which source the words tell: books.txt has the numbers from 1000 on."""
    for name, low in (("small", 0), ("large", 1000)):
        lines = (
            f"{' '.join(str(low + (number * 7 + place) % 90) for place in range(20))} ."
            for number in range(200 if low else 40)
        )
        documents = [f"{line}\n" for line in lines]
        tens = (documents[start : start + 10] for start in range(0, len(documents), 10))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": ten}) + "\n" for ten in tens))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *map(str, range(90)), *map(str, range(1000, 1090))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    command = arguments(
        tmp_path, tmp_path / "out", "--dupe_factor", "2", inputs=("small.jsonl:0.75", "large.jsonl:0.25")
    )
    assert main(command) == 0
    small = large = 0
    for record in records(tmp_path / "out"):
        ids = record["input_ids"]
        small += ((ids >= 6) & (ids < 96)).sum()
        large += (ids >= 96).sum()
    assert abs(small / (small + large) - 0.75) < 0.03
    sources = json.loads((tmp_path / "out" / "meta.json").read_text())["sources"]
    assert [source["visits"] for source in sources] == [36, 12]  # 9 and 0.6 times the 4 and 20 documents


@pytest.fixture(scope="module")
def from_dump(tmp_path_factory):
    """The real dump once over, by two workers."""
    out = tmp_path_factory.mktemp("dump") / "wiki"
    command = [
        "prepare",
        "pretraining",
        "--input",
        str(shared("wiki_dump/enwiki-sample-pages-articles.xml.bz2")),
        "--vocab",
        str(shared("bert-base-uncased-vocab.txt")),
        "--output",
        str(out),
        "--workers",
        "2",
        "--parts",
        "2",
        "--dupe_factor",
        "2",
    ]
    subprocess.run(
        [sys.executable, str(ROOT / "entry.py"), *command], check=True, env=environment(), stdout=subprocess.DEVNULL
    )
    return out


MARKUP = re.compile(
    r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|' ' '|<ref|< ref|</|& (?:nbsp|amp|lt|gt|ndash) ;|https? :|thumb \||= = |\| "
    r"align|style ="
)


def test_the_real_dump_gives_clean_balanced_examples(from_dump):
    tokens = shared("bert-base-uncased-vocab.txt").read_text(encoding="utf-8").split("\n")
    found = list(records(from_dump))
    kinds = np.zeros(3)
    for record in found:
        count = int(record["masked_lm_weights"].sum())
        seen, true = record["input_ids"][record["masked_lm_positions"][:count]], record["masked_lm_ids"][:count]
        kinds += [(seen == 103).sum(), (seen == true).sum(), ((seen != 103) & (seen != true)).sum()]
    assert len(found) > 8000 and np.abs(kinds / kinds.sum() - [0.8, 0.1, 0.1]).max() < 0.01
    assert abs(np.mean([record["next_sentence_labels"][0] for record in found]) - 0.5) < 0.01
    for record in random.Random(5).sample(found, 200):
        count = int(record["masked_lm_weights"].sum())
        ids = record["input_ids"].copy()
        ids[record["masked_lm_positions"][:count]] = record["masked_lm_ids"][:count]
        text = " ".join(tokens[number] for number in ids[: int(record["input_mask"].sum())]).replace(" ##", "")
        assert not MARKUP.search(text), text


def test_oneflows_own_reader_gives_the_same_fields(from_dump):
    """In a process of its own: the engine stays in one that it was once in."""
    code = """
import sys, json
import oneflow as flow
reader = flow.nn.OFRecordReader(sys.argv[1], batch_size=4, data_part_num=2, part_name_suffix_length=-1)
record = reader()
fields = dict(input_ids=(128, flow.int32), input_mask=(128, flow.int32), segment_ids=(128, flow.int32),
              masked_lm_positions=(20, flow.int32), masked_lm_ids=(20, flow.int32), masked_lm_weights=(20, flow.float),
              next_sentence_labels=(1, flow.int32))
decoders = {name: flow.nn.OFRecordRawDecoder(name, shape=(size,), dtype=kind) for name, (size, kind) in fields.items()}
print(json.dumps({name: decoder(record).numpy().tolist() for name, decoder in decoders.items()}))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(from_dump)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    read = json.loads(result.stdout.splitlines()[-1])
    parts = {tuple(record["input_ids"]): record for record in records(from_dump)}
    for row in range(4):
        mine = parts[tuple(read["input_ids"][row])]
        assert set(mine) == set(read) and all(mine[name].tolist() == read[name][row] for name in read)
