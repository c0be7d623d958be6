"""``prepare squad``: the folder it makes, read back by OneFlow's own reader too, and what happens to a folder that is
there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from shared_data import shared
from squad_files import CONTEXT, qa, squad, write_json, write_vocab

from pipeloom.core.commands.cli import main
from pipeloom.plugins.libraries.ofrecord.records import decode, index_part
from pipeloom.plugins.libraries.preparation import folders
from pipeloom.plugins.libraries.questions.articles import LeftOut, read_articles
from pipeloom.plugins.libraries.questions.features import Features, FeatureSettings, make_features
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

fast = pytest.mark.fast


@pytest.fixture
def files(tmp_path):
    """Arguments of a small conversion into ``tmp_path/out``."""
    source = write_json(
        tmp_path / "train.json",
        squad([qa("a"), qa("b", "Rome", 9), qa("lost", start=1)], [qa("c", "nobody speaks", 34)]),
    )
    return {
        "input": source,
        "output": tmp_path / "out",
        "vocab": write_vocab(tmp_path / "vocab.txt", "rome", "paris", "in"),
        "seq_length": 32,
        "doc_stride": 8,
        "max_query_length": 8,
    }


@pytest.fixture
def prepare(files, capsys):
    """Runs ``prepare squad`` with ``files``, changed by keywords: (exit code, stdout, stderr)."""

    def run(**changes):
        arguments = {**files, **changes}
        code = main(
            ["prepare", "squad", *(f"--{name}={value}" for name, value in arguments.items() if value is not None)]
        )
        return (code, *capsys.readouterr())

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def records(folder):
    found = []
    for number in range(len(list(folder.glob("part-*")))):
        part = folder / f"part-{number}"
        data = part.read_bytes()
        found += [decode(data[offset : offset + length]) for offset, length in index_part(part).tolist()]
    return found


@fast
def test_a_folder_with_tokenizer_files_is_a_vocabulary(files, prepare, tmp_path, capsys):
    """Its files are beside the records, which are checked by them, and a checkpoint carries them on."""
    from pipeloom.core.checkpoint.describe import texts_of
    from pipeloom.plugins.datasets.squad.dataset import SquadDataset
    from pipeloom.plugins.libraries.questions.answers import AnswerSettings

    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text(files["vocab"].read_text() + "Rome\nParis\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "sep_token": "#", "model_max_length": 9}')
    assert prepare(vocab=folder)[0] == 0
    assert prepare(vocab=folder)[1].endswith("already there, made with these settings\n")
    assert json.loads((files["output"] / "meta.json").read_text())["settings"]["lowercase"] is False
    tokenizer = WordPieceTokenizer.load(folder)
    (first, *_) = records(files["output"])
    place = int(first["start_positions"][0])
    assert tokenizer.tokens[first["input_ids"][place]] == "Paris"
    assert tokenizer.tokens[tokenizer.sep_id] == "#" and tokenizer.sep_id in first["input_ids"]
    assert main(["prepare", "validate", str(files["output"])]) == 0
    data = SquadDataset(files["output"], files["input"], len(tokenizer), AnswerSettings())
    assert texts_of(data) == {name: (folder / name).read_bytes() for name in ("vocab.txt", "tokenizer_config.json")}
    capsys.readouterr()
    assert "was made with lowercase false, not true" in prepare(vocab=folder, lowercase="true")[2]


@fast
def test_the_folder_of_training_questions(files, prepare):
    code, out, err = prepare(parts=2)
    assert code == 0 and err == "pipeloom: warning: 1 question left out, whose answer is not at its offset: lost\n"
    folder = files["output"]
    assert sorted(contents(folder)) == [
        "features.npz",
        "index.safetensors",
        "meta.json",
        "part-0",
        "part-1",
        "questions.json",
        "vocab.txt",
    ]
    meta = json.loads((folder / "meta.json").read_text())
    assert (
        meta["settings"]["split"] == "train"
        and meta["settings"]["doc_stride"] == 8
        and meta["settings"]["lowercase"] is True
    )
    assert meta["questions"] == 3 and meta["left_out"] == 1 and not meta["version_2"]
    assert (
        f"{folder}: {meta['num_samples']} inputs of 32 tokens from 3 questions for train, 1 left out, SQuAD 1.1 ("
        in out
    )
    assert folders.is_intact(folder)
    questions = json.loads((folder / "questions.json").read_text())["data"][0]["paragraphs"]  # in SQuAD's own form
    assert [(entry["id"], entry["answers"]) for paragraph in questions for entry in paragraph["qas"]] == [
        ("a", [{"text": "Paris", "answer_start": 3}]),
        ("b", [{"text": "Rome", "answer_start": 9}]),
        ("c", [{"text": "nobody speaks", "answer_start": 34}]),
    ]
    assert {paragraph["context"] for paragraph in questions} == {CONTEXT}
    assert (folder / "vocab.txt").read_bytes() == files["vocab"].read_bytes()
    features, found = Features.load(folder / "features.npz"), records(folder)
    assert len(found) == len(features) == meta["num_samples"] > 3
    for index, record in enumerate(found):
        assert sorted(record) == ["end_positions", "input_ids", "input_mask", "segment_ids", "start_positions"]
        for name, values in record.items():
            assert values.dtype == np.int32
            np.testing.assert_array_equal(values, features.inputs(index)[name])


@fast
def test_several_files_and_sizes_that_fit(files, prepare, tmp_path):
    """Inputs of 32 tokens have no room for BERT's questions of 64, so these are shorter where nobody says otherwise."""
    row = {"context": CONTEXT, "question": "Where?", "answers": [{"text": "Rome", "answer_start": 9}]}
    other = write_json(tmp_path / "other.json", [row])
    assert prepare(input=f"{files['input']},{other}", doc_stride=None, max_query_length=None)[0] == 0
    meta = json.loads((files["output"] / "meta.json").read_text())
    assert meta["questions"] + meta["left_out"] == 5
    assert (meta["settings"]["doc_stride"], meta["settings"]["max_query_length"]) == (16, 14)


@fast
def test_the_folder_of_evaluation_questions(files, prepare):
    assert prepare(split="eval")[::2] == (
        0,
        "pipeloom: warning: 1 question not in the loss, whose answer is not at its offset: lost\n",
    )
    found = records(files["output"])
    assert [record["unique_ids"].tolist() for record in found] == [
        [1000000000 + number] for number in range(len(found))
    ]
    assert all(sorted(record) == ["input_ids", "input_mask", "segment_ids", "unique_ids"] for record in found)
    assert Features.load(files["output"] / "features.npz").question_ids == ["a", "b", "lost", "c"]


@fast
def test_an_answer_that_no_window_holds_is_left_out_of_training_alone(files, prepare):
    write_json(files["input"], squad([qa("a"), qa("long", CONTEXT, 0)]))
    assert prepare()[::2] == (0, "pipeloom: warning: 1 question left out, whose answer is longer than a window: long\n")
    assert prepare(split="eval", overwrite="true")[::2] == (
        0,
        "pipeloom: warning: 1 question not in the loss, whose answer is longer than a window: long\n",
    )


@fast
def test_the_same_settings_give_the_same_bytes_and_are_found_there(files, prepare):
    prepare()
    before, stamps = (
        contents(files["output"]),
        {path.name: path.stat().st_mtime_ns for path in files["output"].iterdir()},
    )
    assert prepare() == (0, f"{files['output']} is already there, made with these settings\n", "")
    assert {path.name: path.stat().st_mtime_ns for path in files["output"].iterdir()} == stamps
    prepare(output=files["output"].with_name("again"))
    assert contents(files["output"].with_name("again")) == before


@fast
@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(doc_stride=9), "was made with doc_stride 8, not 9: --overwrite true replaces it, or give another name"),
        (dict(seq_length=40), "was made with seq_length 32, not 40"),
        (dict(max_query_length=9, parts=2), "was made with max_query_length 8, not 9"),
        (dict(lowercase="no"), "was made with lowercase true, not false"),
        (dict(split="eval"), "was made with split train, not eval"),
        (dict(parts=2), "was made with parts 1, not 2"),
        (dict(input="other.json"), "was made from another --input file"),
        (dict(vocab="other.txt"), "was made from another --vocab file"),
    ],
)
def test_a_folder_with_other_settings_is_one_line_or_replaced(files, prepare, tmp_path, changes, says):
    write_json(tmp_path / "other.json", squad([qa("x")]))
    write_vocab(tmp_path / "other.txt", "other")
    changes = {name: tmp_path / value if name in ("input", "vocab") else value for name, value in changes.items()}
    prepare()
    before = contents(files["output"])
    code, out, err = prepare(**changes)
    assert (
        (code, out) == (2, "")
        and err.startswith(f"pipeloom: error: --output {files['output']} {says}")
        and err.count("\n") == 1
    )
    assert contents(files["output"]) == before
    assert prepare(**changes, overwrite="true")[0] == 0
    assert contents(files["output"])["meta.json"] != before["meta.json"] and folders.is_intact(files["output"])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@fast
def test_a_damaged_folder_is_one_line_or_made_again(files, prepare):
    prepare()
    before = contents(files["output"])
    os.truncate(files["output"] / "part-0", 100)
    assert prepare()[::2] == (
        2,
        f"pipeloom: error: --output {files['output']} is damaged: --overwrite true makes it again\n",
    )
    assert prepare(overwrite="true")[0] == 0 and contents(files["output"]) == before


@fast
@pytest.mark.parametrize(
    "make",
    [
        lambda path: (path.mkdir(), (path / "thesis.txt").write_text("the only copy")),
        lambda path: path.write_text("a file"),
        lambda path: (path.mkdir(), (path / "meta.json").write_text('{"settings": {}}')),
    ],
    ids=["foreign folder", "file", "another kind of folder"],
)
def test_what_is_not_of_this_command_is_never_replaced(files, prepare, make):
    make(files["output"])
    code, _, err = prepare(overwrite="true")
    assert code == 2 and err.endswith("exists and is not of 'prepare squad': give another name, or remove it\n")
    assert files["output"].is_file() or len(contents(files["output"])) == 1


@fast
def test_an_empty_folder_is_filled(files, prepare):
    files["output"].mkdir()
    assert prepare()[0] == 0 and folders.is_intact(files["output"])


@fast
@pytest.mark.parametrize(
    "target",
    ["os.fsync", "os.replace", "pathlib.Path.write_bytes", "pipeloom.plugins.libraries.preparation.folders._checksum"],
)
@pytest.mark.parametrize(
    "error, says",
    [
        (OSError(28, "No space left on device"), "cannot write {}: No space left on device"),
        (KeyboardInterrupt(), "interrupted while making {}"),
    ],
    ids=["full disk", "interrupt"],
)
def test_a_failure_anywhere_leaves_what_was_there(files, prepare, tmp_path, monkeypatch, target, error, says):
    prepare()
    before = contents(files["output"])

    def fails(*arguments, **keywords):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(target, fails)
        code, _, err = prepare(doc_stride=9, overwrite="true")
    assert (code, err) == (1, f"pipeloom: error: {says.format(files['output'])}\n")
    assert contents(files["output"]) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "train.json", "vocab.txt"]


@fast
def test_a_failure_between_the_two_renames_puts_the_old_folder_back(files, prepare, monkeypatch):
    prepare()
    before, replace, calls = contents(files["output"]), os.replace, []

    def second_fails(source, target):
        if files["output"] in (source, target):
            calls.append(target)
        if len(calls) == 2:
            calls.append("failed")
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    assert prepare(doc_stride=9, overwrite="true")[0] == 1
    assert contents(files["output"]) == before and len(calls) == 4


@fast
def test_a_killed_conversion_leaves_no_folder_and_its_rest_goes(files, prepare, tmp_path):
    command = ["prepare", "squad", *(f"--{name}={value}" for name, value in files.items())]
    code = (
        "import os, signal, sys; from pipeloom.plugins.libraries.preparation import folders; from pipeloom.__main__ "
        "import run as main;"
        "folders._checksum = lambda path: os.kill(os.getpid(), signal.SIGKILL); main(sys.argv[1:])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *command], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60
    )
    assert process.returncode == -signal.SIGKILL and not files["output"].exists()
    (rest,) = tmp_path.glob(".out.*.writing")
    prepare()
    assert not rest.exists() and folders.is_intact(files["output"])


@fast
@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(input=None), "the following arguments are required: --input"),
        (dict(output=None), "the following arguments are required: --output"),
        (dict(vocab=None), "the following arguments are required: --vocab"),
        (dict(split="dev"), "argument --split: invalid choice: 'dev'"),
        (dict(parts=0), "argument --parts: must be a whole number of at least 1, not '0'"),
        (
            dict(parts=999),
            "which cannot be spread over --parts 999; 1 question left out, whose answer is not at its offset: lost",
        ),
        (dict(lowercase="maybe"), "argument --lowercase: must be true or false, not 'maybe'"),
        (dict(doc_strid=8), "no option '--doc_strid' (did you mean '--doc_stride'?)"),
        (
            dict(seq_length=11),
            "--seq_length 11 leaves no room for a context beside --max_query_length 8: "
            "give --max_query_length 7 at most, or --seq_length 12 at least",
        ),
        (dict(input="trian.json"), "trian.json (did you mean 'train.json'?)"),
        (dict(vocab="train.json"), "train.json: it is JSON, and no tokenizer.json of a tokenizer; give a vocab.txt"),
        (dict(input="vocab.txt"), "vocab.txt is not JSON"),
    ],
)
def test_what_does_not_fit_is_one_line(files, prepare, tmp_path, changes, says):
    code, out, err = prepare(
        **{
            name: tmp_path / value if str(value).endswith((".json", ".txt")) else value
            for name, value in changes.items()
        }
    )
    assert (code, out) == (2, "") and err.startswith("pipeloom: error: ") and says in err and err.count("\n") == 1, err
    assert not files["output"].exists()


@fast
def test_help_loads_nothing_heavy():
    code = "import sys; from pipeloom.__main__ import run; run(['prepare', '--help']); print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        check=True,
    ).stdout
    assert "  squad        SQuAD questions" in out
    assert not {"tokenizers", "oneflow"} & set(out.split())


READ = """
import sys
import numpy as np
import oneflow as flow
folder, parts, count, split, out = sys.argv[1], *map(int, sys.argv[2:4]), *sys.argv[4:]
names = {"input_ids": 384, "input_mask": 384, "segment_ids": 384,
         **({"start_positions": 1, "end_positions": 1} if split == "train" else {"unique_ids": 1})}
reader = flow.nn.OFRecordReader(folder, batch_size=count, data_part_num=parts, part_name_suffix_length=-1)
record = reader()
def decode(name, size):
    return flow.nn.OFRecordRawDecoder(name, shape=(size,), dtype=flow.int32)(record).numpy()
np.savez(out, **{name: decode(name, size) for name, size in names.items()})
"""


@pytest.mark.parametrize("split", ["train", "eval"])
def test_oneflow_reads_the_same_arrays(tmp_path, capsys, split):
    """Its own reader and decoder, all records at once: the features of the real development questions."""
    source, vocab, folder = shared("squad/dev-sample.json"), shared("bert-base-uncased-vocab.txt"), tmp_path / "out"
    assert (
        main(
            [
                "prepare",
                "squad",
                "--input",
                str(source),
                "--vocab",
                str(vocab),
                "--output",
                str(folder),
                "--split",
                split,
                "--parts",
                "3",
            ]
        )
        == 0
    )
    articles = read_articles(source, training=False)
    features = make_features(articles.questions, WordPieceTokenizer.load(vocab), FeatureSettings(), False, LeftOut())
    arguments = [str(folder), "3", str(len(features)), split, str(tmp_path / "read.npz")]
    subprocess.run([sys.executable, "-c", READ, *arguments], check=True, timeout=120)
    with np.load(tmp_path / "read.npz") as read:
        assert set(read.files) == set(records(folder)[0])
        for name in read.files:
            wanted = np.stack([features.inputs(index)[name] for index in range(len(features))])
            assert read[name].dtype == wanted.dtype
            np.testing.assert_array_equal(read[name], wanted)
