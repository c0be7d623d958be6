"""``predict``: questions in, answers out; the model itself is a stand-in here, but in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from jobs import ROOT, environment
from minilm import minilm
from safetensors.numpy import load_file, save_file

from pipeloom.core.commands.cli import main

fast = pytest.mark.fast
#: The stand-in has few positions.
SHORT = ["--max_query_length", "8"]
SETTINGS = {
    "model_type": "bert",
    "architectures": ["BertForQuestionAnswering"],
    "max_position_embeddings": 32,
}
CONTEXT = "Alice went home to Paris. Bob stayed in Rome."


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder with a vocabulary, and in place of its outputs logits that point at the last word of "to paris"."""
    folder = tmp_path / "model"
    folder.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"alice went home to paris bob stayed in rome . ? where who is".split(),
    ]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "config.json").write_text(json.dumps({**SETTINGS, "vocab_size": len(words)}))
    save_file({"x": np.zeros(1, np.float32)}, str(folder / "model.safetensors"))
    calls = []

    def predict(path, task, fields, batch_size, device, **others):
        calls.append((path, task, fields["input_ids"].shape, batch_size, device, fields))
        logits = np.where(
            fields["input_ids"] == words.index("paris"),
            5.0,
            np.where(fields["input_ids"] == words.index("rome"), 4.0, -5.0),
        )
        return {"start_logits": logits.astype(np.float32), "end_logits": logits.astype(np.float32)}

    monkeypatch.setattr("pipeloom.plugins.libraries.huggingface.predicting.predict", predict)
    return folder, calls


@fast
def test_one_question_gets_answers_with_their_worth(model, capsys):
    folder, calls = model
    assert (
        main(
            [
                "predict",
                "--checkpoint",
                str(folder),
                "--question",
                "Where is Alice?",
                "--context",
                CONTEXT,
                "--n_best_size",
                "2",
                *SHORT,
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "answer: Paris",
        "0.731  Paris  (characters 19 to 24)",
        "0.269  Paris. Bob stayed in Rome  (characters 19 to 44)",
    ]
    assert [call[:5] for call in calls] == [
        (str(folder), "question_answering", (1, 32), 16, "auto")
    ]  # as long as it has positions for


@fast
@pytest.mark.parametrize(
    "settings, answer, segments",
    [
        ({}, "Paris", [0, 1]),
        ({"do_lower_case": False}, "to", [0, 1]),
        ({"model_input_names": ["input_ids"]}, "Paris", [0]),
    ],
)
def test_the_tokenizer_is_the_one_of_the_folder(model, capsys, settings, answer, segments):
    """Cased, "Paris" is no word that the vocabulary has; and some tokenizers tell no second text from the first."""
    folder, calls = model
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    words = (folder / "vocab.txt").read_text().split()
    assert (
        main(
            [
                "predict",
                "--checkpoint",
                str(folder),
                "--question",
                "Where?",
                "--context",
                "to Paris",
                "--n_best_size",
                "1",
                *SHORT,
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    fields = calls[0][5]
    assert out.startswith(f"answer: {answer}\n") and sorted(set(fields["segment_ids"].reshape(-1).tolist())) == segments
    assert ("token_type_ids" in err) is (segments == [0])
    assert (words.index("paris") in fields["input_ids"]) is (answer == "Paris")


@fast
def test_a_file_of_questions_gets_a_file_of_answers(model, tmp_path, capsys):
    folder, calls = model
    asked = tmp_path / "asked.jsonl"
    long = "Bob is home. " * 20 + "Alice is in Paris."
    asked.write_text(
        "".join(
            json.dumps(entry) + "\n"
            for entry in (
                {"id": "a", "question": "Where?", "context": CONTEXT},
                {"question": "Where is Alice?", "context": long},
                {"id": 7, "question": "Who?", "context": "..."},
            )
        )
    )
    command = [
        "predict",
        "--checkpoint",
        str(folder),
        "--input",
        str(asked),
        "--doc_stride",
        "8",
        "--batch_size",
        "4",
        "--device",
        "cpu",
        *SHORT,
    ]
    assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 0
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [answer["id"] for answer in answers] == ["a", "2", "7"] and [answer["answer"] for answer in answers[:2]] == [
        "Paris",
        "Paris",
    ]
    assert long[answers[1]["candidates"][0]["start"] : answers[1]["candidates"][0]["end"]] == "Paris"
    assert calls[0][2][0] > 5 and calls[0][3:5] == (4, "cpu")  # windows of the long one
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out == (tmp_path / "out.jsonl").read_text()


@fast
def test_answers_go_into_a_pipe_and_through_a_link_that_stay_what_they_are(model, tmp_path, capsys):
    command = [
        "predict",
        "--checkpoint",
        str(model[0]),
        "--question",
        "Where is Alice?",
        "--context",
        CONTEXT,
        *SHORT,
        "--output",
    ]
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main([*command, str(pipe)]) == 0
    assert json.loads(os.read(reader, 10_000))["answer"] == "Paris" and pipe.is_fifo()
    os.close(reader)
    link.symlink_to(file)
    assert main([*command, str(link)]) == 0 and link.is_symlink()
    assert json.loads(file.read_text())["answer"] == "Paris"
    assert main([*command, str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"pipeloom: error: cannot write {tmp_path}: Is a directory\n"


@fast
@pytest.mark.parametrize(
    "arguments",
    [["--question", "Where\ud800 is Alice?", "--context", CONTEXT.replace("went", "\udcff")], ["--input", "FILE"]],
)
def test_halves_of_characters_reach_no_tokenizer_and_shift_nothing(model, tmp_path, capsys, arguments):
    (tmp_path / "asked.jsonl").write_text(
        json.dumps({"id": "\udcff", "question": "\ud800?", "context": CONTEXT.replace("went", "\ud83d")})
    )
    arguments = [str(tmp_path / "asked.jsonl") if word == "FILE" else word for word in arguments]
    assert (
        main(["predict", "--checkpoint", str(model[0]), *arguments, *SHORT, "--output", str(tmp_path / "out.jsonl")])
        == 0
    )
    found = json.loads((tmp_path / "out.jsonl").read_text())
    assert found["candidates"][0]["text"] == "Paris" and found["candidates"][0]["start"] == CONTEXT.index("Paris") - 3


@fast
def test_every_question_of_a_file_gets_its_line(model, tmp_path, capsys):
    """Also one with an empty context, and one that is asked twice: nothing is lost, and nothing scored."""
    asked = [
        {"id": 1, "question": "Where?", "context": CONTEXT, "answers": {"text": ["Rome"], "answer_start": [0]}},
        {"id": 2, "question": "Where?", "context": " "},
        {"id": 1, "question": "Where?", "context": CONTEXT},
        {"id": 1, "question": "Who?", "context": CONTEXT},
    ]
    (tmp_path / "rows.json").write_text(json.dumps({"data": asked}))
    assert main(["predict", "--checkpoint", str(model[0]), "--input", str(tmp_path / "rows.json"), *SHORT]) == 0
    out, err = capsys.readouterr()
    assert [(answer["id"], answer["answer"]) for answer in map(json.loads, out.splitlines())] == [
        ("1", "Paris"),
        ("2", ""),
        ("1", "Paris"),
        ("1#2", "Paris"),
    ]
    assert err == (
        "pipeloom: warning: 1 question answered under another id, since another one has that id, by: 1#2\n"
        'pipeloom: warning: 1 question answered with "", whose context has no token: 2\n'
    )


@fast
def test_a_model_with_few_positions_needs_no_other_sizes(model, capsys):
    """32 positions have no room for a question of 64 tokens, nor for a stride of 128; who wants these is told so."""
    command = [
        "predict",
        "--checkpoint",
        str(model[0]),
        "--question",
        "Where is Alice?",
        "--context",
        "Bob is home. " * 30 + CONTEXT,
    ]
    assert main(command) == 0 and capsys.readouterr().out.startswith("answer: Paris")
    assert model[1][0][2] == (8, 32)  # 130 tokens, 16 from one window to the next
    assert main([*command, "--max_query_length", "64"]) == 2
    assert capsys.readouterr().err.endswith(" has 32 positions): give at most 28\n")


@fast
def test_no_answer_is_an_answer_where_it_may_be(model, capsys):
    folder, _ = model
    command = [
        "predict",
        "--checkpoint",
        str(folder),
        "--question",
        "Where?",
        "--context",
        CONTEXT,
        "--may_be_impossible",
        "true",
        *SHORT,
    ]
    assert main([*command, "--null_score_diff_threshold", "-25"]) == 0
    assert capsys.readouterr().out.startswith("answer: (no answer)\n")
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("answer: Paris\n")


@fast
@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--question", "Where?"], "--context is missing: give --question and --context, or --input"),
        (["--question", " ", "--context", "x"], "--question is missing"),
        (["--input", "FILE", "--question", "Where?"], "--input has the questions: leave --question"),
        (["--input", "absent.jsonl"], "no file absent.jsonl"),
        (["--input", "FILE"], "asked.jsonl: line 2 has no 'context' (its keys: question)"),
        (["--input", "EMPTY"], "empty.jsonl is empty"),
        (["--question", "a", "--context", "b", "--seq_length", "99"], "--seq_length 99 is more than the 32 positions"),
        (
            ["--question", "a", "--context", "b", "--n_best_size", "0"],
            "--n_best_size: must be a whole number of at least 1",
        ),
        (["--question", "a", "--context", "b", "--vocab", "no.txt"], "cannot read the vocabulary no.txt"),
        (
            ["--question", "a", "--context", "b", "--vocab", "LARGE"],
            "gives the id 41, the model has 19 tokens: give the",
        ),
    ],
)
def test_what_cannot_be_is_one_line(model, tmp_path, capsys, arguments, says):
    (tmp_path / "asked.jsonl").write_text('{"question": "a", "context": "b"}\n{"question": "a"}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    special = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
    (tmp_path / "large.txt").write_text("\n".join([*special, *(f"w{number}" for number in range(35)), "a", "b"]))
    paths = {
        "FILE": str(tmp_path / "asked.jsonl"),
        "EMPTY": str(tmp_path / "empty.jsonl"),
        "LARGE": str(tmp_path / "large.txt"),
    }
    assert main(["predict", "--checkpoint", str(model[0]), *(paths.get(word, word) for word in arguments), *SHORT]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_real_model_answers(tmp_path):
    """MiniLM with a head that prefers nothing in particular: any span will do, and the same one again after an
    export.
    """
    folder = tmp_path / "model"
    folder.mkdir()
    config = {**json.loads((minilm() / "config.json").read_text()), "architectures": ["BertForQuestionAnswering"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_bytes((minilm() / "vocab.txt").read_bytes())
    tensors = {
        f"bert.{name}": value
        for name, value in load_file(str(minilm() / "model.safetensors")).items()
        if "pooler" not in name
    }
    rng = np.random.default_rng(1)
    save_file(
        {
            **tensors,
            "qa_outputs.weight": rng.standard_normal((2, 384)).astype(np.float32),
            "qa_outputs.bias": np.zeros(2, np.float32),
        },
        str(folder / "model.safetensors"),
    )
    assert main(["export", "--checkpoint", str(folder), "--output", str(tmp_path / "exported")]) == 0
    said = []
    # A job of two ranks that is over has left its variables behind; and the engine cannot bear python -O.
    left_over = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29517",
        "PYTHONOPTIMIZE": "1",
    }
    for path, variables in ((folder, left_over), (tmp_path / "exported", {})):
        command = [
            "predict",
            "--checkpoint",
            str(path),
            "--question",
            "Where is Alice?",
            "--context",
            CONTEXT,
            "--seq_length",
            "32",
            *SHORT,
        ]
        result = subprocess.run(
            [sys.executable, str(ROOT / "entry.py"), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**variables),
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    answer = said[0].splitlines()[0].replace("answer: ", "")
    assert said[0] == said[1] and answer and answer in CONTEXT
