"""Exact match and F1 against values worked out by hand from the rules of SQuAD's official evaluations."""

from __future__ import annotations

import pytest

from pipeloom.plugins.libraries.questions.articles import Answer, Question
from pipeloom.plugins.libraries.questions.scoring import figures, score

pytestmark = pytest.mark.fast

# prediction, references, exact match, F1
PAIRS = [
    ("Denver Broncos", ["Denver Broncos"], 1, 1),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),  # precision 1, recall 1/2
    ("Denver Broncos of America", ["Denver Broncos"], 0, 2 / 3),  # precision 1/2, recall 1
    ("Carolina Panthers", ["Denver Broncos"], 0, 0),
    ("York New", ["New York"], 0, 1),  # the order of words counts for exact match alone
    ("", ["Denver"], 0, 0),
    # small letters: lower(), no folding
    ("DENVER broncos", ["Denver Broncos"], 1, 1),
    ("SÃO PAULO", ["são paulo"], 1, 1),
    ("Straße", ["strasse"], 0, 0),
    ("\u0130", ["i"], 0, 0),  # lower() gives an i with a dot above it
    # articles: whole words, after punctuation is gone
    ("the Denver Broncos", ["Denver Broncos"], 1, 1),
    ("the the the end", ["end"], 1, 1),
    ("vitamin A", ["vitamin"], 1, 1),
    ("theatre", ["atre"], 0, 0),
    ("an-other", ["another"], 1, 1),
    ("the-end", ["end"], 0, 0),  # theend
    ("à la carte", ["la carte"], 0, 0.8),  # precision 2/3, recall 1
    ("\uff21 team", ["team"], 0, 2 / 3),  # a wide A is no article
    ("US A", ["U.S.A."], 0, 0),  # us against usa
    # punctuation: ASCII alone, taken out without a space
    ("Denver, Broncos!", ["Denver Broncos."], 1, 1),
    ("U.S.", ["US"], 1, 1),
    ("well-known", ["well known"], 0, 0),
    ("snake_case", ["snakecase"], 1, 1),
    ("o'clock", ["oclock"], 1, 1),
    ("o\u2019clock", ["o'clock"], 0, 0),
    ("\u201ca\u201d day", ["day"], 0, 0.5),  # each curly quote is a word of its own: precision 1/3
    ("1990\u20131995", ["1990-1995"], 0, 0),
    ("$5", ["5"], 1, 1),
    ("\u00a35", ["5"], 0, 0),
    ("3.5", ["35"], 1, 1),
    # white space: what Python splits at
    ("New\n\tYork  City ", ["New York City"], 1, 1),
    ("New\u00a0York", ["New York"], 1, 1),
    ("New\u200bYork", ["New York"], 0, 0),
    # characters are compared as they are
    ("São Paulo", ["Sao Paulo"], 0, 0.5),
    ("cafe\u0301", ["caf\u00e9"], 0, 0),
    ("北京", ["北京市"], 0, 0),
    # words count as often as they stand there
    ("to be or not to be", ["to be"], 0, 0.5),  # precision 2/6
    ("no no no", ["no no"], 0, 0.8),  # precision 2/3
    ("New York New York", ["York New"], 0, 2 / 3),
    # several references: the best of each
    ("golden", ["gold", "golden", "golden anniversary"], 1, 1),
    ("Santa Clara", ["Levi's Stadium", "Santa Clara, California", "Levi's Stadium in Santa Clara"], 0, 0.8),
    # no words at all: version 1.1 finds them equal, and gives no F1
    ("a an the", ["the"], 1, 0),
    ("the", ["The", "Beatles"], 1, 0),
]

PAIRS_OF_VERSION_2 = [
    ("", [], 1, 1),
    ("Normandy", [], 0, 0),
    (".", [], 1, 1),  # has no words, so is no answer
    ("the", ["The"], 1, 1),  # the reference has no words: as if impossible
    ("the", ["The", "Beatles"], 0, 0),  # and does not count beside one that has some
    ("", ["France"], 0, 0),
    ("in France", ["Normandy", "France"], 0, 2 / 3),
]


@pytest.mark.parametrize("prediction, references, exact, f1", PAIRS)
def test_a_pair_by_the_rules_of_version_1(prediction, references, exact, f1):
    assert score(prediction, references) == (exact, pytest.approx(f1, abs=1e-12))


@pytest.mark.parametrize("prediction, references, exact, f1", PAIRS_OF_VERSION_2)
def test_a_pair_by_the_rules_of_version_2(prediction, references, exact, f1):
    assert score(prediction, references, version_2=True) == (exact, pytest.approx(f1, abs=1e-12))


def test_pairs_with_words_are_the_same_in_version_2():
    same = PAIRS[:-2]
    assert len(same) > 40
    for prediction, references, exact, f1 in same:
        assert score(prediction, references, version_2=True) == (exact, pytest.approx(f1, abs=1e-12))


#: By characters, as mlqa_evaluation_v1.py has it for Chinese.
PAIRS_OF_CHARACTERS = [
    ("北京", ["北京市"], 0, 0.8),  # precision 1, recall 2/3
    ("天氣很好", ["很好"], 0, 2 / 3),  # precision 2/4
    ("好很", ["很好"], 0, 1),
    ("《红楼梦》。", ["红楼梦"], 1, 1),  # the punctuation of all scripts goes
    ("2008年", ["2008 年"], 1, 1),
    ("BERT模型", ["bert 模型"], 1, 1),  # between characters there are words as usual
    ("BERT模型", ["be模型"], 0, 2 / 3),
    ("New York", ["New Jersey"], 0, 0.5),
    ("a 北京", ["北京"], 0, 0.8),  # articles stay
    ("東京タワー", ["東京"], 0, 4 / 7),  # syllables are characters too: precision 2/5
    ("とうきょう", ["とうきょう都"], 0, 10 / 11),
    ("人々", ["人"], 0, 2 / 3),
    ("\U00020bb7野家", ["吉野家"], 0, 2 / 3),  # a rarer character is one
]


@pytest.mark.parametrize("prediction, references, exact, f1", PAIRS_OF_CHARACTERS)
def test_a_pair_by_characters(prediction, references, exact, f1):
    for version_2 in (False, True):
        assert score(prediction, references, version_2, "characters") == (exact, pytest.approx(f1, abs=1e-12))


def test_punctuation_alone_is_no_answer_by_characters():
    assert score("。", [], True, "characters") == (1, 1) == score("", ["、"], True, "characters")
    assert score("北", [], True, "characters") == (0, 0)


def test_questions_with_one_id_as_the_official_evaluations_count_them():
    """evaluate-v1.1.py scores each of them, evaluate-v2.0.py the last; one without a reference is not scored."""
    questions = [Question("a", "?", "", (Answer(text, 0),)) for text in ("gold", "silver", "lead")]
    questions.append(Question("u", "?", ""))
    third = pytest.approx(100 / 3)
    assert figures(questions, {"a": "lead", "u": "x"}, False) == {"exact_match": third, "f1": third}
    assert figures(questions, {"a": "lead", "u": "x"}, True)["exact_match"] == 100
    assert figures(questions[3:], {"u": "x"}, True) == {}


def test_figures_are_means_in_percent():
    questions = [
        Question(name, "?", "", tuple(Answer(text, 0) for text in texts), impossible=not texts)
        for name, texts in {"a": ["Denver Broncos"], "b": ["gold", "golden"], "c": [], "d": []}.items()
    ]
    predictions = {"a": "Broncos", "b": "golden", "c": "", "d": "something"}
    assert figures(questions[:2], predictions, version_2=False) == {
        "exact_match": 50,
        "f1": pytest.approx(100 * (2 / 3 + 1) / 2),
    }
    assert figures(questions, predictions, version_2=True) == {
        "exact_match": 50,
        "f1": pytest.approx(100 * (2 / 3 + 1 + 1) / 4),
        "has_answer_exact_match": 50,
        "has_answer_f1": pytest.approx(100 * (2 / 3 + 1) / 2),
        "no_answer_exact_match": 50,
        "no_answer_f1": 50,
    }
    assert set(figures(questions[:2], predictions, version_2=True)) == {
        "exact_match",
        "f1",
        "has_answer_exact_match",
        "has_answer_f1",
    }
    with pytest.raises(KeyError):
        figures(questions, {"a": ""}, version_2=False)
