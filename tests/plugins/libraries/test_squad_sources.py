"""Files of questions in all the shapes that other tools write them in, and what each of their fields may be."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest
from squad_files import CONTEXT, qa, squad

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions.articles import Answer, read_articles

pytestmark = pytest.mark.fast

try:
    from backports import zstd as ZSTD
except ImportError:
    ZSTD = None

#: As HuggingFace's ``datasets`` has them: the answers of a question are columns.
ROWS = [
    {
        "id": name,
        "title": "Towns",
        "context": CONTEXT,
        "question": "Where?",
        "answers": {"text": [text], "answer_start": [start]},
    }
    for name, text, start in (("a", "Paris", 3), ("b", "Rome", 9))
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
ARTICLE = squad([qa("a")], [qa("b", "Rome", 9)])["data"][0]


def read(tmp_path, content, training=True, name="questions"):
    path = tmp_path / name
    text = content if isinstance(content, (bytes, str)) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_articles(path, training)


SHAPES = {
    "SQuAD": squad([qa("a")], [qa("b", "Rome", 9)]),
    "articles": [ARTICLE],
    "an article": ARTICLE,
    "paragraphs": ARTICLE["paragraphs"],
    "paragraphs under data": {"data": ARTICLE["paragraphs"]},
    "rows": ROWS,
    "rows under data": {"data": ROWS},
    "rows under data with a version": {"version": "1.1", "data": ROWS},
    "JSON lines": LINES,
    "JSON lines with blank lines and CRLF": LINES.replace("\n", "\r\n\r\n"),
    "JSON lines with byte-order marks": "\ufeff" + LINES.replace("\n", "\n\ufeff", 1),
    "SQuAD with a byte-order mark": b"\xef\xbb\xbf" + json.dumps(squad([qa("a")], [qa("b", "Rome", 9)])).encode(),
    "objects over several lines": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "two SQuAD files in one": json.dumps(squad([qa("a")])) + json.dumps(squad([qa("b", "Rome", 9)])),
    "paragraphs as lines": "\n".join(map(json.dumps, ARTICLE["paragraphs"])),
    "columns": COLUMNS,
    "columns, answers too": {**COLUMNS, "answers": {"text": [["Paris"], ["Rome"]], "answer_start": [[3], [9]]}},
    "columns of pandas": {name: dict(zip("01", column)) for name, column in COLUMNS.items()},
    "rows of pandas by number": dict(zip("01", ROWS)),
    "split of pandas": {"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]},
    "table of pandas": {"schema": {"fields": []}, "data": ROWS},
    "the viewer's rows": {"features": [], "rows": [{"row_idx": 0, "row": row, "truncated_cells": []} for row in ROWS]},
    "a flattened table": [
        {
            "id": row["id"],
            "context": CONTEXT,
            "question": "Where?",
            "answers.text": row["answers"]["text"],
            "answers.answer_start": row["answers"]["answer_start"],
        }
        for row in ROWS
    ],
    "one answer by its own name": [
        {
            "id": row["id"],
            "context": CONTEXT,
            "question": "Where?",
            "answer": {"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]},
        }
        for row in ROWS
    ],
    "gzip": gzip.compress(LINES.encode()),
    "bzip2": bz2.compress(LINES.encode()),
    "xz": lzma.compress(LINES.encode()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_questions_in_every_shape(tmp_path, shape):
    articles = read(tmp_path, SHAPES[shape])
    assert [(question.id, question.text, question.context, question.answers) for question in articles.questions] == [
        ("a", "Where?", CONTEXT, (Answer("Paris", 3),)),
        ("b", "Where?", CONTEXT, (Answer("Rome", 9),)),
    ]
    assert not articles.version_2 and len(articles.left_out) == 0


def test_several_files_are_one_set(tmp_path):
    other = json.dumps(squad([qa("b", "nobody", 34, question="Who?")]))
    for name, content in (("one", LINES), ("two", json.dumps(ROWS[:1])), ("three", other)):
        (tmp_path / name).write_text(content)
    articles = read_articles([tmp_path / name for name in ("one", "two", "three")], training=False)
    assert [question.id for question in articles.questions] == ["a", "b", "a", "b#2"]


ANSWERS = {
    "an object": {"text": "Paris", "answer_start": 3},
    "columns in a list": [{"text": ["Paris"], "answer_start": [3]}],
    "an offset as text": [{"text": "Paris", "answer_start": "3"}],
    "an offset with a fraction": [{"text": "Paris", "answer_start": 3.0}],
    "an object as text": '{"text": ["Paris"], "answer_start": [3]}',
    "spaces around it": [{"text": " Paris ", "answer_start": 2}],
    "spaces that are not there": [{"text": "  Paris\n", "answer_start": 3}],
}


@pytest.mark.parametrize("form", ANSWERS)
def test_an_answer_in_every_form(tmp_path, form):
    (question,) = read(tmp_path, [{**ROWS[0], "answers": ANSWERS[form]}]).questions
    found = question.answer_in_context()
    assert found.text.strip() == "Paris" and CONTEXT[found.start : found.end] == found.text


def test_white_space_is_as_good_as_any_other(tmp_path):
    context = "In New\u00a0York\r\n City"
    row = {"context": context, "question": "Where?", "answers": {"text": ["New York City"], "answer_start": [3]}}
    assert read(tmp_path, [row]).questions[0].answer_in_context() == Answer("New\u00a0York\r\n City", 3)


@pytest.mark.parametrize(
    "context, answers, reason",
    [
        (
            "In \U0001f600 Paris.",
            [{"text": "Paris", "answer_start": 6}],
            "whose answer_start counts UTF-16 units, not characters",
        ),
        (
            "In \u00e9\u00e9 Paris.",
            [{"text": "Paris", "answer_start": 8}],
            "whose answer_start counts bytes, not characters",
        ),
        ("In Paris.", [{"text": "Paris", "answer_start": 4}], "whose answer is not at its offset"),
        ("In Paris.", [{"text": "Paris"}], "whose answer has no offset (answer_start)"),
        ("In Paris.", ["Paris"], "whose answer has no offset (answer_start)"),
        ("In Paris.", "Paris", "whose answer has no offset (answer_start)"),
        ("In Paris.", {"text": ["Paris"], "answer_start": None}, "whose answer has no offset (answer_start)"),
        ("In Paris.", None, "without an answer"),
        (None, ["Paris"], "without a context"),
    ],
)
def test_what_cannot_be_learned_from_says_why(tmp_path, context, answers, reason):
    rows = [{"id": "x", "context": context, "question": "Where?", "answers": answers}, ROWS[0]]
    assert read(tmp_path, rows).left_out.lines() == [f"1 question left out, {reason}: x"]
    # Evaluation compares with the text alone, as the official one does.
    assert read(tmp_path, rows, training=False).questions[0].has_reference == (answers is not None)


# --- unanswerable or not known


def unlabelled(name="u", **fields):
    entry = {**qa(name), **fields}
    return {key: value for key, value in entry.items() if value is not ...}


@pytest.mark.parametrize(
    "fields, impossible",
    [
        (dict(answers=[]), True),
        (dict(answers=[], is_impossible=None), True),
        (dict(answers=[], is_impossible=False), True),
        (dict(answers={"text": [], "answer_start": []}), True),
        (dict(answers=[{"text": "", "answer_start": -1}]), True),
        (dict(answers=[], is_impossible=1), True),
        (dict(answers=[], is_impossible="true"), True),
        (dict(answers=..., is_impossible=True), True),
        (dict(answers=..., plausible_answers=[{"text": "Rome", "answer_start": 9}]), True),
        (dict(answers=[], plausible_answers=[{"text": "Rome", "answer_start": 9}]), True),
        (dict(is_impossible=0), False),
        (dict(is_impossible="False"), False),
        (dict(is_impossible=0.0), False),
        (dict(is_impossible=True), True),  # and has an answer: learned by the flag, as run_squad.py does
    ],
)
@pytest.mark.parametrize("version", ["v2.0", None, "1.1"])
def test_what_is_unanswerable(tmp_path, fields, impossible, version):
    content = squad([qa("a"), unlabelled(**fields)], version=version)
    for training in (True, False):
        articles = read(tmp_path, content, training)
        if version == "1.1" and impossible and not (fields.get("is_impossible") or "plausible_answers" in fields):
            # Version 1.1 has no such questions: the answer is missing.
            assert [question.id for question in articles.questions if question.answer_in_context()] == ["a"]
            assert not articles.version_2
            continue
        assert [question.impossible for question in articles.questions] == [False, impossible]
        assert articles.version_2 == (impossible or version == "v2.0") and len(articles.left_out) == 0


def test_an_answer_that_contradicts_the_flag_is_scored(tmp_path):
    """evaluate-v2.0.py looks at the answers alone."""
    content = squad([qa("a"), unlabelled(is_impossible=True)], version="v2.0")
    question = read(tmp_path, content, training=False).questions[1]
    assert question.impossible and question.answers == (Answer("Paris", 3),) and question.answer_in_context() is None


@pytest.mark.parametrize("answers", [..., None, [], {"text": [], "answer_start": []}])
@pytest.mark.parametrize("version", ["v2.0", None])
def test_a_file_without_any_answer_is_a_test_set(tmp_path, answers, version):
    content = squad([unlabelled("a", answers=answers), unlabelled("b", answers=answers)], version=version)
    questions = read(tmp_path, content, training=False).questions
    assert len(questions) == 2 and not any(question.has_reference for question in questions)
    with pytest.raises(UsageError, match="has no question to use: 2 questions left out, without an answer: a, b"):
        read(tmp_path, content)


def test_what_is_kept_beside_the_inputs_reads_as_the_same_questions(tmp_path):
    """And has SQuAD's own form, so that the official evaluation reads it with the ids of predictions.json."""
    content = squad(
        [
            qa(7),
            qa("a"),
            qa("a", "Rome", 9, question="Who?"),
            unlabelled("no", answers=[]),
            unlabelled("?", answers=...),
            unlabelled("both", is_impossible=True),
            qa("bad", start=1),
            qa("\ud83d"),
        ],
        version=None,
    )
    articles = read(tmp_path, content, training=False)
    written = read(tmp_path, articles.to_json(), training=False, name="again")
    assert written.questions == articles.questions and written.version_2 == articles.version_2
    assert json.loads(articles.to_json())["version"] == "2.0" and len(articles.questions) == 8


# --- what is not read


@pytest.mark.parametrize(
    "content, says",
    [
        ('{"header": {"dataset": "SQuAD"}}\n{"context": "", "qas": []}', "line 1 has the keys of MRQA"),
        ([{"context": "x", "qas": [{"question": "q", "detected_answers": []}]}], "[0].qas[0] has the keys of MRQA"),
        ([{"annotations": [], "document_text": "x"}], "[0] has the keys of Natural Questions"),
        ({"Data": []}, "it has the keys of TriviaQA"),
        ([{"question": "q", "context": [], "supporting_facts": []}], "[0] has the keys of HotpotQA"),
        ({"data": [{"story": "x", "questions": []}]}, "data[0] has the keys of CoQA"),
        (LINES + '{"question": "x"', "questions is not JSON: it ends in the middle"),
        (LINES.replace("}\n", "\n", 1), "questions is not JSON (Expecting ',' delimiter in line 2)"),
        (LINES + "{'id': 1}\n" + LINES, "questions: line 3 is not JSON (Expecting property name enclosed in double"),
        (LINES + '{"question": "x"}\n', "questions: line 3 has no 'context' (its keys: question)"),
        (LINES + "17\n", "questions: line 3 is a whole number"),
        ({**COLUMNS, "context": ["x"]}, "it has 2 values of 'question' and 1 of 'context'"),
        (
            [{**ROWS[0], "answers": {"text": ["x", "y"], "answer_start": [1]}}],
            "[0].answers[0] has 2 texts and not as many values of 'answer_start'",
        ),
        ("id,question,context\n1,Where?,Here\n", "is not JSON (Expecting value in line 1); give a SQuAD JSON file"),
        ([{**ROWS[0], "answers": "{'text': array(['Paris'])}"}], "[0] has a 'answers' that is text, it must be an obj"),
        (gzip.compress(LINES.encode())[:-20], "questions cannot be decompressed"),
        (
            b"\x28\xb5\x2f\xfd\x04\x00",
            "questions cannot be decompressed"
            if ZSTD is not None
            else "questions is compressed by zstd, which needs the package backports.zstd",
        ),
        (b"PAR1\x15\x04", "is not UTF-8 text but a Parquet file; give"),
        (LINES.encode("utf-16"), "is not UTF-8 text but UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_that_is_not_read_is_one_line(tmp_path, content, says):
    with pytest.raises(UsageError) as error:
        read(tmp_path, content)
    said = str(error.value)
    assert said.startswith(str(tmp_path / "questions")) and says in said and "\n" not in said
