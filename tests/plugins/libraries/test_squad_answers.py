"""From logits to answers: by hand, against a search through all spans, and with perfect logits on real questions."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
import reference_squad
from shared_data import shared

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions.answers import AnswerSettings, predict
from pipeloom.plugins.libraries.questions.articles import LeftOut, Question, read_articles
from pipeloom.plugins.libraries.questions.features import FeatureSettings, Window, _tokens_of, make_features
from pipeloom.plugins.libraries.questions.scoring import figures
from pipeloom.plugins.libraries.text.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

pytestmark = pytest.mark.fast

CONTEXT = "ab cd ef gh"
SPANS = np.array([[0, 2], [3, 5], [6, 8], [9, 11]], np.int32)
#: All of CONTEXT behind [CLS] x [SEP], in an input of 10 tokens.
WINDOW = Window(3, SPANS, np.ones(4, bool))


def logits(**places):
    """10 logits: -5 but at the places p0 .. p9 that are given."""
    values = np.full(10, -5, np.float32)
    for name, value in places.items():
        values[int(name[1:])] = value
    return values


SETTINGS = AnswerSettings()


def ask(start, end, settings=SETTINGS, impossible=False, windows=(WINDOW,), context=CONTEXT):
    starts, ends = (start, end) if isinstance(start, list) else ([start], [end])
    return predict(context, windows, starts, ends, settings, impossible)


def test_the_best_span():
    prediction = ask(logits(p4=3), logits(p5=2))
    assert prediction.text == "cd ef" and prediction.null_odds is None
    best = prediction.candidates[0]
    assert (best.start, best.end, best.start_logit, best.end_logit, best.score) == (3, 8, 3, 2, 5)


def test_an_answer_does_not_end_before_it_starts():
    # backwards "ef .. ab" would have 16
    assert ask(logits(p5=8), logits(p3=8, p6=1)).text == "ef gh"


def test_question_padding_and_frame_are_no_answer():
    assert ask(logits(p0=9, p1=9, p2=9, p7=9, p9=9, p4=0), logits(p0=9, p1=9, p2=9, p7=9, p9=9, p4=0)).text == "cd"


def test_the_longest_answer():
    start, end = logits(p3=5), logits(p6=5, p4=1)
    assert [ask(start, end, AnswerSettings(max_answer_length=length)).text for length in (1, 2, 3, 4)] == [
        "ab",
        "ab cd",
        "ab cd",
        CONTEXT,
    ]


def test_how_many_answers():
    for count, given in ((1, 1), (3, 3), (10, 10), (50, 10)):  # there are 4 + 3 + 2 + 1 spans
        candidates = ask(logits(p4=3), logits(p5=2), AnswerSettings(n_best_size=count)).candidates
        assert len(candidates) == given
        assert [candidate.score for candidate in candidates] == sorted(
            (candidate.score for candidate in candidates), reverse=True
        )
        assert sum(candidate.probability for candidate in candidates) == pytest.approx(1)


def test_an_answer_begins_where_there_is_most_context():
    windows = [Window(3, SPANS[:3], np.array([True, True, False])), Window(3, SPANS[2:], np.array([True, True]))]
    # the first window is surer of "ef", and is not asked
    assert (
        ask([logits(p5=9, p3=1), logits(p3=2)], [logits(p5=9, p3=1), logits(p3=2)], windows=windows).text == "ab cd ef"
    )
    assert ask([logits(p5=9), logits(p3=4)], [logits(p5=-5), logits(p4=4)], windows=windows).text == "ef gh"


def test_a_text_is_given_once_with_its_best_score():
    context = "ab ab ab cd"
    candidates = ask(logits(p3=2, p4=3, p5=1), logits(p3=2, p4=3, p5=1), context=context).candidates
    assert [candidate.text for candidate in candidates].count("ab") == 1
    assert (candidates[0].text, candidates[0].start, candidates[0].score) == ("ab", 3, 6)


def test_equal_spans_in_the_order_of_the_context():
    assert [
        candidate.text for candidate in ask(np.zeros(10), np.zeros(10), AnswerSettings(n_best_size=5)).candidates
    ] == ["ab", "ab cd", "ab cd ef", "ab cd ef gh", "cd"]


def test_the_text_is_that_of_the_context_with_accents_behind_letters():
    context = "Jose\u0301\u0302 X"
    window = Window(3, np.array([[0, 4], [7, 8]], np.int32), np.ones(2, bool))
    assert ask(logits(p3=3), logits(p3=3), windows=[window], context=context).text == "Jose\u0301\u0302"


@pytest.mark.parametrize("threshold, text", [(0.0, ""), (1.9, ""), (2.0, "cd ef"), (2.5, "cd ef"), (-9.0, "")])
def test_no_answer(threshold, text):
    prediction = ask(
        logits(p0=3, p4=3), logits(p0=4, p5=2), AnswerSettings(null_score_diff_threshold=threshold), impossible=True
    )
    assert prediction.null_odds == 2 and prediction.text == text
    assert [candidate.text for candidate in prediction.candidates][:2] == ["", "cd ef"]
    assert prediction.candidates[0].score == 7


def test_no_answer_is_as_good_as_in_the_window_that_believes_least_in_it():
    windows = [Window(3, SPANS[:2], np.ones(2, bool)), Window(3, SPANS[2:], np.ones(2, bool))]
    starts, ends = [logits(p0=9, p3=1), logits(p0=1, p3=2)], [logits(p0=9, p3=1), logits(p0=1, p3=2)]
    prediction = ask(starts, ends, impossible=True, windows=windows)
    assert prediction.text == "ef" and prediction.null_odds == 2 - 4
    assert ask(starts, ends, windows=windows).text == "ef"


def test_no_answer_is_always_among_the_candidates():
    prediction = ask(logits(p0=-9, p4=3), logits(p0=-9, p5=2), AnswerSettings(n_best_size=3), impossible=True)
    assert (
        prediction.text == "cd ef"
        and [candidate.text for candidate in prediction.candidates][-1] == ""
        and len(prediction.candidates) == 4
    )
    among = ask(logits(p0=3, p4=3), logits(p0=1, p5=2), AnswerSettings(n_best_size=3), impossible=True)
    assert [candidate.text for candidate in among.candidates][:2] == ["cd ef", ""] and len(among.candidates) == 3


def test_settings_that_cannot_be_are_one_line():
    for name in ("n_best_size", "max_answer_length"):
        with pytest.raises(UsageError, match=f"--{name} 0 is too small"):
            AnswerSettings(**{name: 0})


# --- real questions


@pytest.fixture(scope="module")
def dev():
    """(articles, features) of the real development questions."""
    articles = read_articles(shared("squad/dev-sample.json"), training=False)
    tokenizer = WordPieceTokenizer.load(shared("bert-base-uncased-vocab.txt"))
    return articles, make_features(articles.questions, tokenizer, FeatureSettings(192, 64, 64), False, LeftOut())


def test_the_best_answers_are_those_of_a_search_through_all_spans(dev):
    articles, features = dev
    rng = np.random.default_rng(7)
    settings = AnswerSettings(n_best_size=8, max_answer_length=12)
    for number in range(0, 400, 40):
        windows = [features.window(index) for index in features.of_question(number)]
        starts, ends = rng.normal(size=(2, len(windows), 192)).astype(np.float32) * 4
        context = articles.questions[number].context
        wanted = reference_squad.best_answers(context, windows, starts, ends, 8, 12)
        candidates = predict(context, windows, starts, ends, settings, False).candidates
        got = [(candidate.text, candidate.score, candidate.probability) for candidate in candidates]
        assert [text for text, _, _ in got] == [text for text, _, _ in wanted]
        np.testing.assert_allclose([row[1:] for row in got], [row[1:] for row in wanted], rtol=1e-12)


def test_perfect_logits_score_all_that_tokens_allow(dev):
    """The four that miss are annotations that cut a token: gold(en), (1)8, 4(9), (1)2."""
    articles, features = dev
    predictions = {}
    for number, question in enumerate(articles.questions):
        windows = [features.window(index) for index in features.of_question(number)]
        starts, ends = np.zeros((2, len(windows), 192), np.float32)
        for row, index in enumerate(features.of_question(number)):
            start, end = features.windows[index, 3:]
            if start:  # a window without the answer says so at its [CLS]
                starts[row, start] = ends[row, end] = 10
        predictions[question.id] = predict(question.context, windows, starts, ends, AnswerSettings(), False).text
    missed = {
        question.id: predictions[question.id]
        for question in articles.questions
        if not figures([question], predictions, False)["exact_match"]
    }
    assert missed == {
        "56be4db0acb8001400a502f0": "golden",
        "56be4e1facb8001400a502f9": "18",
        "56bf159b3aeaaa14008c950a": "49",
        "56d2045de7d4791d009025f5": "12",
    }
    assert figures(articles.questions, predictions, False)["exact_match"] == 99.0


#: A sentence in each language of XQuAD, and in others whose letters have signs of their own; composed, decomposed,
#: with joiners.
LANGUAGES = {
    "ar": "وُلِدَ مُحَمَّدٌ فِي القَاهِرَةِ عام ١٩٨٤، لا\u200cيَزالُ هناك.",
    "de": "Möchte er nach Du\u0308sseldorf? Straße, groß",
    "el": "Ὁ Οδυσσέας ήταν ο σοφός Σίσυφος ἄνθρωπος",
    "en": "He said nai\u0308ve café: co\u0301operate",
    "es": "El niño comió pin\u0303a",
    "hi": "जॉन एलवे ने सुपर बाउल ५० में खेला। क्\u200dष और क्\u200cष की हिन्दी",
    "ro": "Ștefan cel Mare și țara",
    "ru": "Ёлка й И\u0306 Киё\u0301в",
    "th": "กรุงเทพมหานครเป็นเมืองหลวงของไทย น้ำ ที่นี่ สี่",
    "tr": "İstanbul Iğdır ıssız I\u0307",
    "vi": "Hồ Chí Minh sinh ở Nghệ An, tiê\u0301ng Viê\u0323t",
    "zh": "北京是中國的首都。𠀀𠀁字",
    "bn": "ঢাকা রাজধানী কো কৌ",
    "ta": "சென்னை தமிழ்நாட்டின் கோ கௌ",
    "te": "హైదరాబాద్ తెలంగాణ కై",
    "ml": "അവന്\u200d അവള്\u200d",
    "km": "ភ្នំពេញ គឺជារាជធានី",
    "my": "ရန်ကုန်မြို့ သည် မြန်မာ",
    "he": "שָׁלוֹם עֲלֵיכֶם",
    "ja": "東京は首都です。か\u3099き\u3099 ﾊﾟｰ",
    "ko": "서울은 한국의 \u1112\u1161\u11ab\u1100\u1173\u11af",
}


@pytest.mark.parametrize(
    "settings",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"do_lower_case": False, "strip_accents": True}],
    ids=["uncased", "cased", "accents kept", "accents stripped"],
)
def test_an_answer_in_any_script_comes_back_whole(tmp_path, settings):
    """Every span from a letter to the end of another, its marks with it, is what its tokens are turned back into."""
    letters = sorted(
        {
            part
            for text in LANGUAGES.values()
            for letter in text
            for form in (letter, letter.lower())
            for part in (form[0], *unicodedata.normalize("NFD", form))
            if not part.isspace()
        }
    )
    (tmp_path / "vocab.txt").write_text(
        "".join(f"{token}\n" for token in [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)])
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = WordPieceTokenizer.load(tmp_path)
    for language, text in LANGUAGES.items():
        features = make_features([Question("a", "?", text)], tokenizer, FeatureSettings(150, 128, 8), False, LeftOut())
        window, spans = features.window(0), features.window(0).spans
        marks = [
            place
            for place, letter in enumerate(text)
            if unicodedata.category(letter)[0] == "M" or letter in "\u200c\u200d"
        ]
        starts = [place for place, letter in enumerate(text) if place not in marks and not letter.isspace()]
        ends = [place for place in range(1, len(text) + 1) if place not in marks and not text[place - 1].isspace()]
        for start in starts:
            for end in [end for end in ends if end > start][:8]:
                first, last = _tokens_of(spans, start, end)
                (score,), (other,) = ([np.full(150, -5, np.float32)] for _ in range(2))
                score[window.position + first], other[window.position + last] = 5, 5
                found = predict(
                    text, [window], [score], [other], AnswerSettings(n_best_size=1, max_answer_length=100), False
                ).text
                # A syllable that was taken apart is one letter of the text.
                assert found == text[start:end], (language, ascii(found), ascii(text[start:end]))
