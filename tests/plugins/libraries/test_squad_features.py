"""SQuAD questions to inputs and back to characters, by hand on small ones and against BERT's procedure on real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_squad
from byte_bpe import write_byte_bpe
from shared_data import shared
from squad_files import write_vocab

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.questions import features as features_room
from pipeloom.plugins.libraries.questions.articles import Answer, LeftOut, Question, read_articles
from pipeloom.plugins.libraries.questions.features import Features, FeatureSettings, make_features
from pipeloom.plugins.libraries.questions.scoring import exact_match
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast

WORDS = [f"w{number}" for number in range(12)]


@pytest.fixture
def tokenizer(tmp_path):
    return WordPieceTokenizer.load(write_vocab(tmp_path / "vocab.txt", "who", "##ese", "japan", *WORDS))


def made(tokenizer, *questions, seq_length=10, doc_stride=2, max_query_length=2, training=False):
    left_out = LeftOut()
    features = make_features(
        questions, tokenizer, FeatureSettings(seq_length, doc_stride, max_query_length), training, left_out
    )
    return features, left_out


def about(context, answer=None, name="q", text="who?", **more):
    answers = () if answer is None else (Answer(answer, context.index(answer)),)
    return Question(name, text, context, answers, **more)


def tokens_of(tokenizer, ids):
    return " ".join(tokenizer.tokens[number] for number in ids)


def test_windows_of_a_long_context(tokenizer):
    features, _ = made(tokenizer, about(" ".join(WORDS[:9]), "w3 w4"))
    assert [tokens_of(tokenizer, features.inputs(index)["input_ids"]) for index in range(len(features))] == [
        "[CLS] who ? [SEP] w0 w1 w2 w3 w4 [SEP]",
        "[CLS] who ? [SEP] w2 w3 w4 w5 w6 [SEP]",
        "[CLS] who ? [SEP] w4 w5 w6 w7 w8 [SEP]",
    ]
    # the third window has one word of the answer, which is not the answer
    places = [
        (features.inputs(index)["start_positions"].tolist(), features.inputs(index)["end_positions"].tolist())
        for index in range(3)
    ]
    assert places == [([7], [8]), ([5], [6]), ([0], [0])]
    assert [features.inputs(index)["unique_ids"].tolist() for index in range(3)] == [
        [1000000000],
        [1000000001],
        [1000000002],
    ]
    # w3 has one word beside it in the first window and one in the second: the first of equal ones has it
    assert [features.window(index).max_context.astype(int).tolist() for index in range(3)] == [
        [1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]
    assert features.window(1).position == 4 and features.window(1).spans.tolist() == [
        [6, 8],
        [9, 11],
        [12, 14],
        [15, 17],
        [18, 20],
    ]


@pytest.mark.parametrize(
    "tokens, room, stride",
    [(310, 300, 128), (1000, 320, 128), (325, 320, 320), (50, 20, 3), (21, 20, 20), (7, 20, 5), (60, 20, 30)],
)
def test_the_window_with_most_context(tokens, room, stride):
    """The length of a window weighs too: at 310 tokens the first one keeps a token that has one more on a side in the
    shorter second one.
    """
    windows = features_room._windows(tokens, room, stride)
    best = features_room._best_windows(windows)
    assert len(best) == tokens
    for token, number in enumerate(best):
        assert reference_squad.has_max_context(windows, windows[number], token)


def test_a_long_context_is_looked_through_once(tokenizer, monkeypatch):
    """All windows of a question by one pass over them, each over its own tokens alone."""
    features, _ = made(tokenizer, about(" ".join(WORDS * 50)))
    calls, best = [], features_room._best_windows
    monkeypatch.setattr(features_room, "_best_windows", lambda windows: calls.append(len(windows)) or best(windows))
    windows = features.windows_of(0)
    assert calls == [len(features)] == [len(windows)] and len(windows) > 200
    assert sum(window.max_context.sum() for window in windows) == 600  # each token is at its best in one of them
    assert (windows[150].spans == features.window(150).spans).all() and windows[150].max_context.any()


def test_a_question_without_words_and_a_context_without_tokens(tokenizer):
    left_out = LeftOut()
    questions = [
        about("w1", "w1", name="a", text=""),
        about("\u200b", name="b"),
        about("", name="c"),
        about("w2", name="d"),
    ]
    features = make_features(questions, tokenizer, FeatureSettings(10, 2, 2), False, left_out)
    assert features.question_ids == ["a", "b", "c", "d"] and len(features) == 2
    assert tokens_of(tokenizer, features.inputs(0)["input_ids"][:5]) == "[CLS] [SEP] w1 [SEP] [PAD]"
    assert [list(features.of_question(number)) for number in range(4)] == [[0], [], [], [1]]
    assert left_out.lines() == ['2 questions answered with "", whose context has no token: b, c'] and len(left_out) == 0


def test_a_short_input_is_filled_up(tokenizer):
    features, _ = made(tokenizer, about("w1 w2", "w2"), seq_length=12)
    values = features.inputs(0)
    assert tokens_of(tokenizer, values["input_ids"]) == "[CLS] who ? [SEP] w1 w2 [SEP]" + " [PAD]" * 5
    assert values["input_mask"].tolist() == [1] * 7 + [0] * 5
    assert values["segment_ids"].tolist() == [0] * 4 + [1] * 3 + [0] * 5
    assert (values["start_positions"], values["end_positions"]) == ([5], [5])
    assert {name: (value.dtype, value.shape) for name, value in values.items()} == {
        **dict.fromkeys(("input_ids", "input_mask", "segment_ids"), (np.int32, (12,))),
        **dict.fromkeys(("start_positions", "end_positions", "unique_ids"), (np.int32, (1,))),
    }


def test_a_long_question_is_cut_and_questions_share_a_context(tokenizer):
    features, _ = made(
        tokenizer, about("w1 w2", text="w5 w6 w7 w8", name="a"), about("w1 w2", "w1", name="b"), about("w3", name="c")
    )
    assert (
        features.question_ids == ["a", "b", "c"]
        and features.context_of.tolist() == [0, 0, 1]
        and len(features.context_ids) == 3
    )
    assert tokens_of(tokenizer, features.inputs(0)["input_ids"][:5]) == "[CLS] w5 w6 [SEP] w1"
    assert [features.of_question(number) for number in range(3)] == [range(0, 1), range(1, 2), range(2, 3)]


@pytest.mark.parametrize(
    "context, answer, start, tokens",
    [
        ("w1 (w2)", "w2", 4, "w2"),  # narrower than the word
        ("w1 japanese", "japan", 3, "japan"),  # a piece of it
        ("w1 japanese", "pan", 5, "japan"),  # a part of a piece: the whole piece
        ("w1  w2 w3", " w2 ", 3, "w2"),  # white space around it
        ("w1 W2\u0301", "W2\u0301", 3, "w2"),  # the accent is in no token
        ("w1 w2", "w1 w2", 0, "w1 w2"),
    ],
)
def test_the_tokens_of_an_answer(tokenizer, context, answer, start, tokens):
    question = Question("q", "who?", context, (Answer(answer, start),))
    values = made(tokenizer, question, training=True)[0].inputs(0)
    (begin,), (end,) = values["start_positions"], values["end_positions"]
    assert tokens_of(tokenizer, values["input_ids"][begin : end + 1]) == tokens


@pytest.mark.parametrize(
    "question, reason",
    [
        (about("w0 w1 w2 w3 w4 w5 w6", "w0 w1 w2 w3 w4 w5"), "whose answer is longer than a window"),
        (about(" ".join(WORDS), "w4 w5 w6"), "whose answer is not whole in any window (a smaller --doc_stride helps)"),
        (about("w1 \u200b w2", "\u200b"), "whose answer has no token"),
        (about("\u200b\u200d", None), "whose context has no token"),
    ],
)
def test_what_cannot_be_learned_is_left_out_of_training(tokenizer, question, reason):
    features, left_out = made(tokenizer, about("w1", "w1", name="good"), question, training=True, doc_stride=5)
    assert features.question_ids == ["good"] and left_out.lines() == [f"1 question left out, {reason}: q"]
    kept, _ = made(tokenizer, question, doc_stride=5)
    # Evaluation asks it too, and has no place for it in the loss: there is no window that says that it has no answer.
    assert kept.question_ids == ["q"]
    assert (kept.windows[:, 3:] == 10).all() if "context" not in reason else len(kept) == 0


def test_an_impossible_question_has_the_place_0(tokenizer):
    features, left_out = made(tokenizer, about("w1 w2", impossible=True), training=True)
    assert features.windows[:, 3:].tolist() == [[0, 0]] and len(left_out) == 0


@pytest.mark.parametrize(
    "sizes, says",
    [
        ((10, 0, 2), "--doc_stride 0 is too small"),
        ((10, 2, 0), "--max_query_length 0 is too small"),
        (
            (67, 128, 64),
            "--seq_length 67 leaves no room for a context beside --max_query_length 64: give "
            "--max_query_length 63 at most, or "
            "--seq_length 68 at least",
        ),
    ],
)
def test_sizes_that_cannot_be_are_one_line(sizes, says):
    with pytest.raises(UsageError, match=says):
        FeatureSettings(*sizes)


def test_features_are_kept_in_a_file(tokenizer, tmp_path):
    features, _ = made(tokenizer, about(" ".join(WORDS), "w3", name="ä\0"), about("w1", name="b"))
    for name in ("one", "two"):
        features.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = Features.load(tmp_path / "one")
    assert again.question_ids == ["ä\0", "b"] and len(again) == len(features)
    for index in range(len(features)):
        for name, value in features.inputs(index).items():
            np.testing.assert_array_equal(again.inputs(index)[name], value)
        np.testing.assert_array_equal(again.window(index).spans, features.window(index).spans)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-40], lambda data: data[:200] + bytes(4) + data[204:], lambda data: b"", lambda data: b"PK"],
    ids=["cut off", "changed", "empty", "another file"],
)
def test_a_damaged_file_of_features_is_one_line(tokenizer, tmp_path, damage):
    path = tmp_path / "features.npz"
    made(tokenizer, about("w1 w2", "w1"))[0].save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"features.npz is damaged \(.*\): make the folder again"):
        Features.load(path)


# --- real questions


@pytest.fixture(scope="module")
def bert_tokenizer():
    return WordPieceTokenizer.load(shared("bert-base-uncased-vocab.txt"))


def is_part_of_a_token(features, question, number):
    """Whether a first answer of ``question`` begins or ends inside a token."""
    context = features.context_of[number]
    spans = features.context_spans[features.context_starts[context] : features.context_starts[context + 1]]
    answer = question.answer_in_context()
    return bool(
        (
            (spans[:, 0] < answer.start) & (answer.start < spans[:, 1])
            | (spans[:, 0] < answer.end) & (answer.end < spans[:, 1])
        ).any()
    )


@pytest.mark.parametrize("sizes", [FeatureSettings(), FeatureSettings(96, 32, 20)], ids=["usual", "many windows"])
@pytest.mark.parametrize("name, questions", [("train", 60), ("dev", 60)])
def test_inputs_are_those_of_berts_own_procedure(bert_tokenizer, name, questions, sizes):
    articles = read_articles(shared(f"squad/{name}-sample.json"), training=True)
    chosen = articles.questions[:: len(articles.questions) // questions]
    features = make_features(chosen, bert_tokenizer, sizes, True, LeftOut())
    for number, question in enumerate(chosen):
        wanted = reference_squad.inputs(
            question, bert_tokenizer, sizes.seq_length, sizes.doc_stride, sizes.max_query_length
        )
        assert len(wanted) == len(features.of_question(number))
        for index, (ids, segments, start, end, words, best) in zip(features.of_question(number), wanted):
            values, window = features.inputs(index), features.window(index)
            assert values["input_ids"].tolist() == ids and values["segment_ids"].tolist() == segments
            assert {window.position + place for place in np.flatnonzero(window.max_context)} == best
            begins, ends = zip(*(words[window.position + place] for place in range(len(window.spans))))
            assert (window.spans[:, 0] >= begins).all() and (window.spans[:, 1] <= ends).all()
            if not is_part_of_a_token(
                features, question, number
            ):  # there BERT takes whole words, pipeloom the one token
                assert (values["start_positions"][0], values["end_positions"][0]) == (start, end)


@pytest.mark.parametrize("name, exceptions", [("train", 12), ("dev", 5)])
def test_answers_survive_the_way_to_tokens_and_back(bert_tokenizer, name, exceptions):
    """Every answer that consists of whole tokens comes back; the others are all such whose annotation cuts a token
    ("gold" of "golden").
    """
    questions = read_articles(shared(f"squad/{name}-sample.json"), training=True).questions
    left_out = LeftOut()
    features = make_features(questions, bert_tokenizer, FeatureSettings(), True, left_out)
    assert len(left_out) == 0
    lost = []
    for number, question in enumerate(questions):
        index = next(index for index in features.of_question(number) if features.windows[index, 3])
        window, (start, end) = features.window(index), features.windows[index, 3:] - features.window(index).position
        text = question.context[window.spans[start, 0] : window.spans[end, 1]]
        if not exact_match(text, question.answer_in_context().text):
            lost.append(question)
            assert is_part_of_a_token(features, question, number)
    assert len(lost) == exceptions


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    folder = write_byte_bpe(tmp_path_factory.mktemp("roberta"), {"tokenizer_class": "RobertaTokenizer"})
    return Vocabulary(folder).load(special_in_text=True)


def test_robertas_inputs_are_those_of_its_tokenizer(roberta):
    """Against the library's own pair of texts, which transformers takes: two separators between, one segment."""
    context, question = "The hen is in the café. It sings \N{HATCHING CHICK} there.", "Where is the hen?"
    asked = Question("1", question, context, (Answer("in the café", context.index("in the")),))
    features = make_features([asked], roberta, FeatureSettings(64, 32, 20), True, LeftOut())
    expected = roberta._tokenizer.encode(question, context, add_special_tokens=True)
    found = features.inputs(0)
    length = len(expected.ids)
    assert found["input_ids"][:length].tolist() == expected.ids
    assert set(found["input_ids"][length:]) == {roberta.pad_id}
    assert found["input_mask"].sum() == length
    window = features.window(0)
    first = expected.sequence_ids.index(1)
    assert window.position == first
    assert [tuple(span) for span in window.spans.tolist()] == expected.offsets[first : length - 1]
    start, end = (int(found[f"{which}_positions"][0]) for which in ("start", "end"))
    assert context[expected.offsets[start][0] : expected.offsets[end][1]] == "in the café"


def test_robertas_windows_leave_room_for_its_second_separator(roberta):
    context = "the hen sings in the rain and " * 12
    settings = FeatureSettings(32, 8, 10)
    features = make_features([Question("1", "Where?", context)], roberta, settings, False, LeftOut())
    lengths = [int(features.inputs(index)["input_mask"].sum()) for index in range(len(features))]
    assert lengths[:-1] == [32] * (len(lengths) - 1) and len(lengths) > 4
    with pytest.raises(UsageError, match="--seq_length 14 leaves no room .* --seq_length 15 at least"):
        make_features([Question("1", "Where?", context)], roberta, FeatureSettings(14, 8, 10), False, LeftOut())


def test_features_that_were_saved_without_the_number_of_separators_are_read(tmp_path, roberta):
    features = make_features([Question("1", "Where?", "there")], roberta, FeatureSettings(32, 8, 10), False, LeftOut())
    replace(features, frame=features.frame[:4]).save(tmp_path / "older.npz")
    assert Features.load(tmp_path / "older.npz").frame.tolist() == [*features.frame[:4], 1]
