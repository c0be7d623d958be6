"""Reading raw SQuAD: what is taken, what is left out and counted, what ends with one line."""

from __future__ import annotations

import json

import pytest
from shared_data import shared
from squad_files import CONTEXT, qa, squad

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions.articles import Answer, LeftOut, read_articles

pytestmark = pytest.mark.fast


def written(tmp_path, content):
    path = tmp_path / "squad.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("name, questions, answers", [("train-sample.json", 2424, 1), ("dev-sample.json", 400, 2)])
def test_the_real_files_are_read_whole(name, questions, answers):
    articles = read_articles(shared(f"squad/{name}"), training=True)
    assert len(articles.questions) == questions and len(articles.left_out) == 0 and not articles.version_2
    for question in articles.questions:
        assert len(question.answers) >= answers
        assert question.answer_in_context() is question.answers[0]


def test_questions_keep_their_order_and_context(tmp_path):
    read = read_articles(written(tmp_path, squad([qa("a"), qa("b", "Rome", 9)], [qa("c")])), training=True).questions
    assert [question.id for question in read] == ["a", "b", "c"]
    assert read[1].context == CONTEXT and read[1].answers == (Answer("Rome", 9),) and read[1].answers[0].end == 13


@pytest.mark.parametrize(
    "changes, reason",
    [
        (dict(start=4), "whose answer is not at its offset"),
        (dict(text="of it", start=-6), "whose answer is not at its offset"),
        (dict(start=1000), "whose answer is not at its offset"),
        (dict(text=" ", start=2), "whose answer is empty"),
        (dict(text="Paris", start=-1), "whose answer has no offset (answer_start)"),
        (dict(question=" \n"), "without words"),
        (dict(question="Half a \ud83d?"), "whose text has half a surrogate pair in it"),
    ],
)
def test_a_question_that_cannot_be_learned_from_is_left_out_and_counted(tmp_path, changes, reason):
    articles = read_articles(written(tmp_path, squad([qa("good"), qa("bad", **changes)])), training=True)
    assert [question.id for question in articles.questions] == ["good"]
    assert articles.left_out.lines() == [f"1 question left out, {reason}: bad"]


@pytest.mark.parametrize("context", [None, " "])
def test_questions_without_a_context(tmp_path, context):
    content = squad([qa("good")], [qa("bad"), qa("worse")])
    if context is None:
        del content["data"][0]["paragraphs"][1]["context"]
    else:
        content["data"][0]["paragraphs"][1]["context"] = context
    articles = read_articles(written(tmp_path, content), training=True)
    assert len(articles.questions) == 1
    assert articles.left_out.lines() == ["2 questions left out, without a context: bad, worse"]
    # for evaluation a prediction is wanted for each
    assert len(read_articles(written(tmp_path, content), training=False).questions) == 3


def test_evaluation_needs_no_offsets_and_training_takes_the_first_answer_that_has_one(tmp_path):
    entry = qa("a")
    entry["answers"] = [{"text": "elsewhere", "answer_start": 3}, {"text": "Rome", "answer_start": 9}]
    path = written(tmp_path, squad([entry, qa("b", start=5)]))
    assert [question.id for question in read_articles(path, training=False).questions] == ["a", "b"]
    (kept,) = read_articles(path, training=True).questions
    assert kept.answer_in_context() == Answer("Rome", 9)


def test_ids_are_needed_for_scoring_alone(tmp_path):
    """None is lost for its id: numbers become text, missing ones numbers, and the second of two gets another."""
    asked = [qa(101), qa(None), qa(1.5), qa("a"), qa("a"), qa("a", "Rome", 9, question="Who?"), qa(" "), qa("2")]
    del asked[6]["id"]
    path = written(tmp_path, squad(asked))
    assert len(read_articles(path, training=True).questions) == 8
    articles = read_articles(path, training=False)
    # The fourth and the fifth are the same question.
    assert [question.id for question in articles.questions] == ["101", "2", "1.5", "a", "a", "a#2", "7", "2"]
    assert articles.left_out.lines() == ["1 question answered under another id, since another one has that id, by: a#2"]
    asked[7]["question"] = "Which number?"
    assert read_articles(written(tmp_path, squad(asked)), training=False).questions[7].id == "2#2"


def test_version_2(tmp_path):
    impossible = qa("no", impossible=True)
    impossible.pop("answers")
    assert read_articles(written(tmp_path, squad([qa("yes")], version="v2.0")), training=False).version_2
    articles = read_articles(written(tmp_path, squad([qa("yes"), impossible])), training=True)
    assert articles.version_2 and [question.impossible for question in articles.questions] == [False, True]
    assert articles.questions[1].answers == () and len(articles.left_out) == 0
    unanswered = qa("lost")
    unanswered["answers"] = []
    assert read_articles(written(tmp_path, squad([qa("a"), unanswered])), training=True).left_out.lines() == [
        "1 question left out, without an answer: lost"
    ]


def test_a_report_is_short():
    left_out = LeftOut()
    for number in range(7):
        left_out.add("without words", f"q{number}")
    left_out.add("without a context", "q9")
    assert len(left_out) == 8
    assert left_out.lines() == [
        "7 questions left out, without words: q0, q1, q2, q3, q4, ...",
        "1 question left out, without a context: q9",
    ]


def change(path, value):
    """``squad([qa("a")])`` with one value replaced, or removed where it is ``...``."""
    content = squad([qa("a")])
    *way, last = path
    place = content
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return content


PARAGRAPH = ("data", 0, "paragraphs", 0)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is empty; give a SQuAD JSON file"),
        (b"  \n", "is empty"),
        (b"{'data': []}", "is not JSON (Expecting property name"),
        (json.dumps(squad([qa("a")])).encode()[:-9], "is not JSON"),
        (b"[" * 100000, "is not JSON"),
        (b"\xff\xfe{\x00", "is not UTF-8 text"),
        ([1], "[0] is a whole number, it must be an object with keys"),
        (1, "it is a whole number, a SQuAD file is an object with the key 'data'"),
        ({"version": "1.1"}, "it has no 'data' (its keys: version); give a SQuAD JSON file"),
        ({"data": {}}, "it has a 'data' that is an object, it must be a list"),
        ({"data": ["x"]}, "data[0] is text, it must be an object with keys"),
        ({"data": []}, "has no question to use; give a SQuAD file with questions"),
        (
            squad([qa("a", start=4)]),
            "has no question to use: 1 question left out, whose answer is not at its offset: a; give",
        ),
        (change(("data", 0, "paragraphs"), ...), "data[0] has no 'paragraphs' (its keys: title)"),
        (change((*PARAGRAPH, "qas"), ...), "data[0].paragraphs[0] has no 'qas'"),
        (
            change((*PARAGRAPH, "context"), 5),
            "data[0].paragraphs[0] has a 'context' that is a whole number, it must be text",
        ),
        (change((*PARAGRAPH, "qas", 0, "id"), []), "qas[0] has a 'id' that is a list, it must be text or a number"),
        (
            change((*PARAGRAPH, "qas", 0, "question"), None),
            "data[0].paragraphs[0].qas[0] has a 'question' that is null, it must be text",
        ),
        (
            change((*PARAGRAPH, "qas", 0, "answers"), ...),
            "no question to use: 1 question left out, without an answer: a",
        ),
        (
            change((*PARAGRAPH, "qas", 0, "answers"), 5),
            "qas[0] has a 'answers' that is a whole number, it must be a list",
        ),
        (
            change((*PARAGRAPH, "qas", 0, "is_impossible"), "no"),
            "has a 'is_impossible' that is text, it must be true or false",
        ),
        (
            change((*PARAGRAPH, "qas", 0, "answers", 0, "answer_start"), "x"),
            "'answer_start' that is text, it must be a",
        ),
        (change((*PARAGRAPH, "qas", 0, "answers", 0, "answer_start"), 3.5), "'answer_start' that is a number, it must"),
        (
            change((*PARAGRAPH, "qas", 0, "answers", 0, "answer_start"), True),
            "'answer_start' that is true or false, it must be a whole number",
        ),
        (change((*PARAGRAPH, "qas", 0, "answers", 0, "text"), ...), "qas[0].answers[0] has no 'text'"),
    ],
)
def test_a_file_that_is_not_squad_is_one_line_that_says_where(tmp_path, content, says):
    path = written(tmp_path, content)
    with pytest.raises(UsageError) as error:
        read_articles(path, training=True)
    assert str(error.value).startswith(str(path)) and says in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "train-v1.1.json").write_text("{}")
    with pytest.raises(UsageError, match=r"^no file .*/train-v1.json \(did you mean 'train-v1.1.json'\?\)$"):
        read_articles(tmp_path / "train-v1.json", training=True)
    with pytest.raises(UsageError, match="^cannot read .*: Is a directory$"):
        read_articles(tmp_path, training=True)
