"""What the fuzzer reads of SQuAD: raw JSON, and a prepared folder with its features."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Mapping

import numpy as np
from mutations import Files, Mutation, Target, change_somewhere
from squad_files import qa, squad, write_json, write_vocab

from pipeloom.plugins.datasets.squad.records import Conversion
from pipeloom.plugins.libraries.questions.articles import read_articles
from pipeloom.plugins.libraries.questions.features import Features, FeatureSettings, make_features
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

_SIZES = FeatureSettings(20, 6, 4)
_QUESTIONS = squad(
    [qa("a"), qa("b", "Rome", 9), qa("no", impossible=True)], [qa("c", "nobody speaks", 34)], version="v2.0"
)


_ROWS = [
    {
        "id": entry["id"],
        "context": paragraph["context"],
        "question": entry["question"],
        "is_impossible": entry.get("is_impossible", False),
        "answers": {key: [answer[key] for answer in entry["answers"]] for key in ("text", "answer_start")},
    }
    for paragraph in _QUESTIONS["data"][0]["paragraphs"]
    for entry in paragraph["qas"]
]


def _questions(content) -> Target:
    return Target(
        read_questions,
        lambda: {"squad.json": json.dumps(content, indent=1).encode()},
        lambda: {"another value": _another_value},
        r"{folder}/squad\.json",
    )


@functools.lru_cache(maxsize=None)
def _tokenizer() -> WordPieceTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        return WordPieceTokenizer.load(write_vocab(Path(folder) / "vocab.txt", "paris", "rome", "nobody"))


def read_questions(folder: Path) -> None:
    for training in (True, False):
        articles = read_articles(folder / "squad.json", training)
        features = make_features(articles.questions, _tokenizer(), _SIZES, training, articles.left_out)
        answered = {question.id for question in articles.questions if question.answer_in_context() is not None}
        twice = [id for id, count in Counter(question.id for question in articles.questions).items() if count > 1]
        for number, name in enumerate(features.question_ids):
            places = features.windows[features.of_question(number).start : features.of_question(number).stop, 3:]
            # In training an id may stand twice, for a question with an answer and one without.
            assert not training or name in twice or bool(places.any()) == (name in answered), name


def read_features(folder: Path) -> None:
    features = Features.load(folder / "features.npz")
    for index in range(len(features)):
        values, window = features.inputs(index), features.window(index)
        assert values["input_ids"].shape == (features.seq_length,)
        assert (
            len(window.spans) == len(window.max_context) and window.position + len(window.spans) < features.seq_length
        )
        assert index in features.of_question(features.question_of(index))


@functools.lru_cache(maxsize=None)
def _features() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, vocab = (
            write_json(folder / "squad.json", _QUESTIONS),
            write_vocab(folder / "vocab.txt", "paris", "rome"),
        )
        Conversion((source,), "train", vocab, True, _SIZES).write(folder / "out")
        return {"features.npz": (folder / "out" / "features.npz").read_bytes()}


def _another_value(files: Files, rng: np.random.Generator) -> Files:
    content = json.loads(files["squad.json"])
    change_somewhere(content, rng)
    return {"squad.json": json.dumps(content).encode()}


def _on_array(change) -> Mutation:
    """One array of the file is another, and the file is whole."""

    def mutation(files: Files, rng: np.random.Generator) -> Files:
        with np.load(io.BytesIO(files["features.npz"])) as file:
            arrays = {name: file[name] for name in file.files}
        name = str(rng.choice(sorted(arrays)))
        changed = change(arrays[name].copy(), rng)
        arrays.pop(name)
        written = io.BytesIO()
        np.savez(written, **arrays, **({} if changed is None else {name: changed}))
        return {"features.npz": written.getvalue()}

    return mutation


def _other_number(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    array.reshape(-1)[rng.integers(0, array.size)] = (
        7 if array.dtype == np.uint8 else rng.choice([-1, 0, 1, 19, 20, 2**31 - 1, -(2**31)])
    )
    return array


_ARRAYS = {
    "another number": _on_array(_other_number),
    "another type": _on_array(lambda array, rng: array.astype(rng.choice(["float64", "int64", "bool", "U3"]))),
    "another shape": _on_array(
        lambda array, rng: np.resize(array, [(), (0,), (3,), (2, 2), (array.size, 1)][rng.integers(0, 5)])
    ),
    "an array is missing": _on_array(lambda array, rng: None),
}

SQUAD_TARGETS = {
    "squad": _questions(_QUESTIONS),
    "squad rows": _questions(_ROWS),
    "squad columns": _questions({name: [row[name] for row in _ROWS] for name in _ROWS[0]}),
    "squad features": Target(
        read_features, lambda: dict(_features()), lambda: dict(_ARRAYS), r"{folder}/features\.npz"
    ),
}
