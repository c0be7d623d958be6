"""The plugin 'squad': questions as a dataset, every option of it, and the scorer of its evaluation."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from shared_data import shared
from squad_files import CONTEXT, qa, squad, write_json, write_vocab

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands.cli import main, parse
from pipeloom.core.contract.dataset import FirstSamples
from pipeloom.core.contract.derived import with_derived
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import describe_plan
from pipeloom.plugins.datasets import squad as plugin
from pipeloom.plugins.datasets.squad.dataset import SquadDataset
from pipeloom.plugins.libraries.questions.answers import AnswerSettings
from pipeloom.plugins.libraries.questions.articles import LeftOut, Question, read_articles
from pipeloom.plugins.libraries.questions.features import FeatureSettings, make_features
from pipeloom.plugins.libraries.questions.scorer import AnswerScorer
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer
from pipeloom.plugins.tasks import QUESTION_ANSWERING

pytestmark = pytest.mark.fast

WORDS = ("in", "paris", "rome", "is", "praised", "nobody", "speaks", "of", "it", "where")


def validated(folder, capsys):
    """The exit code of ``prepare validate``, and what it says where the folder is not good."""
    capsys.readouterr()
    code = main(["prepare", "validate", str(folder)])
    said = capsys.readouterr().out
    return code, said if code else ""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Small files, an empty cache, and ``open``: the dataset of a split under some options."""
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path / "cache"))
    answered = [qa("a"), qa("b", "Rome", 9), qa("lost", start=1)]
    write_json(tmp_path / "train.json", squad(answered))
    write_json(tmp_path / "dev.json", squad([qa("a"), qa("b", "Rome", 9)], [qa("c", "nobody", 34)]))
    write_json(tmp_path / "dev2.json", squad([qa("a", impossible=False), qa("no", impossible=True)], version="v2.0"))
    vocab = write_vocab(tmp_path / "vocab.txt", *WORDS)

    def open_dataset(split="train", **changes):
        declared = {}
        plugin.pipeloom_add_options(
            options=SimpleNamespace(add=lambda name, type, default, **rest: declared.update({name: default}))
        )
        values = {
            **declared,
            "seq_length": 24,
            "vocab_size": None,
            "eval_every": 5,
            "max_query_length": 4,
            "doc_stride": 8,
            "vocab": vocab,
            "squad_train": tmp_path / "train.json",
            "squad_dev": tmp_path / "dev.json",
            **changes,
        }
        return plugin.pipeloom_open_dataset(config=SimpleNamespace(**values), split=split)

    return SimpleNamespace(path=tmp_path, vocab=vocab, open=open_dataset)


def prepared(site, split="train", name="train.json", **changes):
    sizes = {"seq_length": 24, "doc_stride": 8, "max_query_length": 4, **changes}
    folder = site.path / f"made-{split}"
    assert (
        main(
            [
                "prepare",
                "squad",
                "--input",
                str(site.path / name),
                "--vocab",
                str(site.vocab),
                "--output",
                str(folder),
                "--split",
                split,
                *(f"--{option}={value}" for option, value in sizes.items()),
            ]
        )
        == 0
    )
    return folder


def prepare_again(site, folder, *more):
    """The command of ``prepared(site, "eval", "dev.json")`` once more."""
    from pipeloom.plugins.commands.prepare import prepare_command

    prepare_command(
        [
            "squad",
            f"--input={site.path / 'dev.json'}",
            f"--vocab={site.vocab}",
            f"--output={folder}",
            "--split=eval",
            "--seq_length=24",
            "--doc_stride=8",
            "--max_query_length=4",
            *more,
        ]
    )


def refused(site, split="train", **changes):
    with pytest.raises(UsageError) as error:
        site.open(split, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- the dataset


def test_raw_questions_are_converted_once(site, monkeypatch):
    data = site.open()
    assert data.task == "question_answering" and data.split == "train" and data.scored == () and data.scorer() is None
    assert list(data.fields) == ["input_ids", "input_mask", "segment_ids", "start_positions", "end_positions"]
    assert data.vocab_size == len(WordPieceTokenizer.load(site.vocab)) and len(data) == 2
    assert data.describe() == (
        f"2 inputs of 2 questions in {site.path / 'train.json'}; "
        "1 question left out, whose answer is not at its offset: lost"
    )
    batch = data.read([1, 0], ["start_positions", "input_ids"])
    assert (
        list(batch) == ["start_positions", "input_ids"]
        and batch["input_ids"].shape == (2, 24)
        and batch["start_positions"].shape == (2, 1)
    )
    assert [data.path.parent.name, data.path.name[:12]] == ["cache", "squad-train-"]
    assert site.open(vocab_size=500).vocab_size == site.open(vocab_size=500).fields["input_ids"].high == 500
    monkeypatch.setattr(
        "pipeloom.plugins.datasets.squad.records.Conversion.write", None
    )  # a second conversion would fail
    assert site.open().path == data.path and site.open().fingerprint() == data.fingerprint()


def test_evaluation_has_the_fields_of_the_public_sets_and_places_for_a_loss(site):
    data = site.open("eval")
    assert list(data.fields) == [
        "input_ids",
        "input_mask",
        "segment_ids",
        "unique_ids",
        "start_positions",
        "end_positions",
    ]
    assert data.scored == ("start_logits", "end_logits")
    batch = data.read([2, 0], list(data.fields))
    assert {name: (values.dtype, values.shape) for name, values in batch.items()} == {
        name: (np.int32, (2, *data.fields[name].shape)) for name in data.fields
    }
    assert batch["unique_ids"].tolist() == [[1000000002], [1000000000]]
    tokens = WordPieceTokenizer.load(site.vocab).tokens
    places = [
        (row[begin], row[end])
        for row, (begin,), (end,) in zip(batch["input_ids"], batch["start_positions"], batch["end_positions"])
    ]
    assert [(tokens[begin], tokens[end]) for begin, end in places] == [("nobody", "nobody"), ("paris", "paris")]
    with pytest.raises(KeyError):
        data.read([0], ["masked_lm_ids"])


def test_a_prepared_folder_gives_the_same_samples(site):
    raw, folder = site.open(), site.open(squad_train=prepared(site))
    assert folder.path == site.path / "made-train" and folder.fingerprint() == raw.fingerprint()
    dev = site.open("eval", squad_dev=prepared(site, "eval", "dev.json"), vocab=None)
    assert len(dev) == 3 and not any((site.path / "cache").glob("squad-eval*"))


def test_the_vocabulary_of_a_huggingface_folder(site):
    (site.path / "hf").mkdir()
    (site.path / "hf" / "vocab.txt").write_bytes(site.vocab.read_bytes())
    from_folder = dict(vocab=None, init_from=str(site.path / "hf"))
    assert site.open(**from_folder).path == site.open().path
    (site.path / "hf" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert site.open(**from_folder).path == site.open().path
    assert "was trained with lowercase true: leave --lowercase out, or" in refused(site, **from_folder, lowercase=False)
    (site.path / "hf" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert site.open(**from_folder).path == site.open(lowercase=False).path
    (site.path / "hf" / "tokenizer_config.json").write_text('{"do_lower_case": ')
    assert "tokenizer_config.json: it is no JSON file" in refused(site, **from_folder)
    (site.path / "hf" / "vocab.txt").unlink()
    assert "give the vocabulary that turns it into tokens with --vocab vocab.txt" in refused(site, **from_folder)


@pytest.mark.parametrize(
    "split, changes, says",
    [
        (
            "train",
            dict(squad_train=None),
            "squad needs --squad_train: raw SQuAD JSON (train-v1.1.json), or a folder of 'prepare squad'",
        ),
        ("eval", dict(squad_dev=None), "--eval_every 5: on which questions? give them with --squad_dev"),
        ("test", {}, "squad has no split 'test'; it has 'train' and 'eval'"),
        ("train", dict(squad_train="{path}/trian.json"), "no file {path}/trian.json (did you mean 'train.json'?)"),
        ("train", dict(squad_train="{path}"), "{path} is not a folder of SQuAD inputs: make one with 'prepare squad'"),
        (
            "train",
            dict(vocab=None),
            "{path}/train.json is text: give the vocabulary that turns it into tokens with --vocab vocab.txt",
        ),
        (
            "train",
            dict(vocab="{path}/vocab.tx"),
            "cannot read the vocabulary {path}/vocab.tx: No such file or directory (did you mean 'vocab.txt'?)",
        ),
        (
            "train",
            dict(vocab_size=10),
            "--vocab_size 10 is smaller than the vocabulary of --squad_train {path}/train.json: give at least ",
        ),
        (
            "train",
            dict(seq_length=7),
            "--seq_length 7 leaves no room for a context beside --max_query_length 4: give "
            "--max_query_length 3 at most, or --seq_length 8 at least",
        ),
        ("train", dict(squad_train="{path}/vocab.txt"), "{path}/vocab.txt is not JSON"),
    ],
)
def test_what_does_not_fit_is_one_line(site, split, changes, says):
    here = {name: value.format(path=site.path) if isinstance(value, str) else value for name, value in changes.items()}
    assert says.format(path=site.path) in refused(site, split, **here)


@pytest.mark.parametrize(
    "option, value, says",
    [
        ("seq_length", 32, "was made with seq_length 24, not 32: give --seq_length 24, or make it again"),
        ("doc_stride", 9, "was made with doc_stride 8, not 9: give --doc_stride 8"),
        ("max_query_length", 5, "was made with max_query_length 4, not 5"),
        ("lowercase", False, "was made with lowercase true, not false: give --lowercase true"),
        ("vocab", "other.txt", "was made with another vocabulary than --vocab"),
    ],
)
def test_a_prepared_folder_must_be_as_the_options_say(site, option, value, says):
    folder = prepared(site)
    (site.path / "other.txt").write_text((site.path / "vocab.txt").read_text() + "another\n")
    changes = {option: site.path / value if option == "vocab" else value}
    assert refused(site, squad_train=folder, **changes).startswith(f"--squad_train {folder} {says}")


def test_a_folder_for_the_other_split(site):
    assert refused(site, "eval", squad_dev=prepared(site)).endswith(
        "made-train was made for train: make one with 'prepare squad --split eval'"
    )


def test_a_folder_whose_files_do_not_belong_together(site, capsys):
    folder = prepared(site, "eval", "dev.json")
    assert validated(folder, capsys) == (0, "")
    meta = json.loads((folder / "meta.json").read_text())
    write_json(folder / "meta.json", {**meta, "num_samples": 9})
    assert "has 3 records, its meta.json says 9: make it again" in refused(site, "eval", squad_dev=folder)
    assert validated(folder, capsys) == (1, f"{folder} has 3 records, its meta.json says 9\n")
    write_json(folder / "meta.json", {**meta, "settings": {**meta["settings"], "format": 1}})
    said = refused(site, "eval", squad_dev=folder)
    assert "was made by another version of 'prepare squad': make it again with --overwrite true" in said
    with pytest.raises(UsageError, match="--overwrite true replaces it"):
        prepare_again(site, folder)
    prepare_again(site, folder, "--overwrite=true")
    assert json.loads((folder / "meta.json").read_text()) == meta
    data = SquadDataset(folder, folder, 200, AnswerSettings())
    write_json(folder / "questions.json", squad([qa("a"), qa("b")]))
    assert refused(site, "eval", squad_dev=folder).startswith(
        f"--squad_dev {folder} is damaged, its files are not as its meta.json says: make it"
    )
    assert validated(folder, capsys) == (1, f"{folder} is damaged, its files are not as its meta.json says\n")
    with pytest.raises(
        UsageError,
        match="questions.json lacks 1 of the questions in features.npz, for instance c: make the folder again",
    ):
        data.scorer()
    questions, tokenizer = [Question("a", "where?", CONTEXT)], WordPieceTokenizer.load(site.vocab)
    make_features(questions, tokenizer, FeatureSettings(24, 8, 4), False, LeftOut()).save(folder / "features.npz")
    with pytest.raises(UsageError, match="features.npz has 1 inputs, the records are 3: make the folder again"):
        SquadDataset(folder, folder, 200, AnswerSettings()).scorer()


# --- several files, test sets, what is in no loss


def test_several_files_and_folders(site):
    both = site.open(squad_train=f"{site.path / 'train.json'},{prepared(site)}")
    assert len(both) == 4 and both.held_out and both.vocabulary is not None and not site.open(squad_dev=None).held_out
    assert site.open(squad_train=f"{site.path / 'train.json'}:3,{site.path / 'dev.json'}:1").mixture.shares == (3, 1)
    dev = site.open("eval", squad_dev=f"{site.path / 'dev.json'},{site.path / 'dev2.json'}")
    assert len(dev) == 5 and "dev.json," in dev.describe()
    assert "leave the weights out" in refused(site, "eval", squad_dev=f"{site.path / 'dev.json'}:1")
    folder = prepared(site, "eval", "dev.json")
    mixed = f"{folder},{site.path / 'dev.json'}"
    assert f"{folder} is a folder; give it alone" in refused(site, "eval", squad_dev=mixed)
    write_vocab(site.path / "other.txt", *reversed(WORDS))
    start = str(_model(site, "other.txt"))
    said = refused(site, squad_train=mixed.replace("made-eval", "made-train"), vocab=None, init_from=start)
    assert "have different vocabularies" in said


def _model(site, vocab, positions=16):
    folder = site.path / "hf"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_bytes((site.path / vocab).read_bytes())
    write_json(folder / "config.json", {"max_position_embeddings": positions})
    return folder


def test_a_question_whose_answer_is_not_known_is_in_no_loss(site):
    """Answered and scored, but nothing says that it has no answer: its places are outside of the input."""
    write_json(site.path / "dev.json", squad([qa("a"), qa("bad", "Rome", 10), qa("no", impossible=True)]))
    data = site.open("eval")
    places = data.read(range(3), ["start_positions", "end_positions"])
    assert [values.ravel().tolist() for values in places.values()] == [[5, 24, 0], [5, 24, 0]]
    assert data.describe().endswith("; 1 question not in the loss, whose answer is not at its offset: bad")
    derived = QUESTION_ANSWERING.derived(SimpleNamespace(seq_length=24))
    counted = with_derived(data, derived).read(range(3), ["start_weights", "end_weights"])
    assert [values.ravel().tolist() for values in counted.values()] == [[1, 0, 1], [1, 0, 1]]
    scorer = data.scorer()
    pointing = 10 * np.eye(25, 24, dtype=np.float32)
    scorer.add(range(3), {name: pointing[values.ravel()] for name, values in zip(data.scored, places.values())})
    assert scorer.finish(None)["has_answer_exact_match"] == 50


def test_a_test_set_is_answered_and_not_scored(site, tmp_path):
    content = squad([qa("a"), qa("b", "Rome", 9)], [qa("c", "nobody", 34)], context=CONTEXT)
    content["data"][0]["paragraphs"][1]["context"] = ""
    for paragraph in content["data"][0]["paragraphs"]:
        for entry in paragraph["qas"]:
            del entry["answers"]
    write_json(site.path / "dev.json", content)
    data = site.open("eval")
    assert not data.has_references and "start_positions" not in data.fields
    assert data.scored == ("start_logits", "end_logits")
    assert "3 questions answered, not scored, without an answer: a, b, c" in data.describe()
    scorer = data.scorer()
    scorer.add(range(2), {name: np.zeros((2, 24), np.float32) for name in data.scored})
    assert scorer.finish(tmp_path) == {}
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert list(predictions) == ["a", "b", "c"] and predictions["a"] and predictions["c"] == ""


def test_what_is_measured_on_it_and_what_is_said(site):
    flags = [
        "--plugins",
        "inter_first,bert,squad",
        "--vocab",
        str(site.vocab),
        "--seq_length",
        "24",
        "--squad_train",
        str(site.path / "train.json"),
        "--hidden_size",
        "8",
        "--num_attention_heads",
        "2",
    ]

    def plan(dev, *more):
        return make_plan(*parse([*flags, "--squad_dev", str(site.path / dev), *more]))

    write_json(site.path / "test.json", [{"context": CONTEXT, "question": "Where?"}])
    made = plan("test.json")
    assert not made.goal.measured and made.goal.cost({}) is None
    assert "; after the last step, with nothing to compare with, so no checkpoint is the best" in describe_plan(made)
    with pytest.raises(UsageError, match="^--best_metric f1: an evaluation of 'bert' measures nothing, without ref"):
        plan("test.json", "--best_metric", "f1")
    # An answer without an offset: nothing for a loss, and something to compare with.
    write_json(site.path / "texts.json", [{"context": CONTEXT, "question": "Where?", "answers": ["Paris"]}])
    assert plan("texts.json").goal.metric == "f1"
    with pytest.raises(UsageError, match="^--best_metric loss: an evaluation of 'bert' gives exact_match, f1$"):
        plan("texts.json", "--best_metric", "loss")
    assert plan("dev.json", "--best_metric", "loss").goal.measured and plan("dev.json").goal.metric == "f1"


# --- what it is trained with where nobody says


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], (384, 128, 64)),
        (["--init_from", "{hf}"], (100, 50, 64)),
        (["--seq_length", "48"], (48, 24, 22)),
        (["--seq_length", "48", "--doc_stride", "9", "--max_query_length", "8"], (48, 9, 8)),
        (["--max_position_embeddings", "256"], (256, 128, 64)),
        (["--squad_train", "{made}"], (24, 8, 4)),
        (["--squad_train", "{made}", "--seq_length", "48"], (48, 8, 4)),
    ],
)
def test_defaults_of_berts_fine_tuning(site, flags, expected):
    paths = {"hf": _model(site, "vocab.txt", positions=100), "made": prepared(site)}
    config, _ = parse(["--plugins", "inter_first,bert,squad", *(flag.format(**paths) for flag in flags)])
    assert (config.seq_length, config.doc_stride, config.max_query_length) == expected
    assert (config.learning_rate, config.train_global_batch_size, config.epochs) == (5e-5, 32, 3.0)
    assert not {"learning_rate", "epochs", "train_global_batch_size"} & config.given


def test_steps_that_were_given_are_not_those_of_the_default_epochs(site):
    flags = [
        "--plugins",
        "inter_first,bert,squad",
        "--vocab",
        str(site.vocab),
        "--seq_length",
        "24",
        "--squad_train",
        str(site.path / "train.json"),
        "--hidden_size",
        "8",
        "--num_attention_heads",
        "2",
    ]
    steps = [
        make_plan(*parse([*flags, *more])).config.train_steps
        for more in (
            [],
            ["--train_steps", "7"],
            ["--epochs", "32"],
            ["--train_global_batch_size", "8", "--epochs", "8"],
        )
    ]
    assert steps == [1, 7, 2, 2]  # of 2 samples, in batches of 32
    with pytest.raises(UsageError, match="^--epochs and --train_steps both say how long to train"):
        make_plan(*parse([*flags, "--train_steps", "7", "--epochs", "2"]))


# --- every option has an effect

EFFECTS = {
    "squad_train": ("train", dict(squad_train="dev.json")),
    "squad_dev": ("eval", dict(squad_dev="dev2.json")),
    "vocab": ("train", dict(vocab="other.txt")),
    "lowercase": ("train", dict(lowercase=False)),
    "doc_stride": ("train", dict(doc_stride=3, seq_length=14)),
    "max_query_length": ("train", dict(max_query_length=1)),
    "squad_f1": ("eval", dict(squad_f1="characters")),
    "n_best_size": ("eval", dict(n_best_size=2)),
    "max_answer_length": ("eval", dict(max_answer_length=2)),
    "null_score_diff_threshold": ("eval", dict(null_score_diff_threshold=3.0)),
}


def observed(data):
    """What a run sees of a dataset: its samples, and for evaluation what is made of the same logits."""
    seen = [values.tolist() for values in data.read(range(len(data)), list(data.fields)).values()]
    scorer = data.scorer()
    if scorer is not None:
        rng = np.random.default_rng(0)
        outputs = dict(zip(data.scored, rng.normal(size=(2, len(data), 24)).astype(np.float32)))
        for values in outputs.values():
            values[:, 0] += 2  # "no answer" is ahead, not by far
        scorer.add(range(len(data)), outputs)
        seen.append(
            {name: (prediction.text, len(prediction.candidates)) for name, prediction in scorer.predictions().items()}
        )
        seen.append(scorer.finish(None))
    return seen


def options_of_the_plugin():
    names = []
    plugin.pipeloom_add_options(options=SimpleNamespace(add=lambda name, *rest, **more: names.append(name)))
    return names


@pytest.mark.parametrize("option", options_of_the_plugin())
def test_every_option_has_an_effect(site, option):
    write_vocab(site.path / "other.txt", *reversed(WORDS))
    split, changes = EFFECTS[option]
    write_json(site.path / "articles.json", squad([qa("a", "Rome a Paris", 4)], context="the Rome a Paris the Rome"))
    changes = {
        name: site.path / value if str(value).endswith((".json", ".txt")) else value for name, value in changes.items()
    }
    dev = {"null_score_diff_threshold": "dev2.json", "squad_f1": "articles.json"}.get(option, "dev.json")
    base = {"squad_dev": site.path / dev, **changes}
    base[option] = {
        "squad_train": site.path / "train.json",
        "squad_dev": site.path / "dev.json",
        "vocab": site.vocab,
        "lowercase": True,
        "doc_stride": 8,
        "max_query_length": 4,
        "squad_f1": "words",
        "n_best_size": 20,
        "max_answer_length": 30,
        "null_score_diff_threshold": 0.0,
    }[option]
    assert observed(site.open(split, **base)) != observed(site.open(split, **{**base, **changes}))


def test_a_run_has_these_options():
    config, _ = parse(
        ["--plugins", "inter_first,bert,squad", "--squad_train", "x", "--null-score-diff-threshold", "-1.5"]
    )
    assert config.squad_train == "x" and config.null_score_diff_threshold == -1.5
    assert set(options_of_the_plugin()) == set(EFFECTS) <= set(config.to_flat_dict())


# --- the scorer


def perfect(data):
    """Logits (inputs, 24) that point at the reference answers, and at the [CLS] where an input has none."""
    places = data.read(range(len(data)), ["start_positions", "end_positions"])
    return {name: 10 * np.eye(24, dtype=np.float32)[column[:, 0]] for name, column in zip(data.scored, places.values())}


def test_figures_and_files(site, tmp_path):
    data = site.open("eval")
    scorer, logits = data.scorer(), perfect(data)
    logits["end_logits"][1] = logits["start_logits"][2] = 0  # "Rome" ends anywhere, "nobody" begins anywhere
    logits["end_logits"][1, 6] = 5  # behind "in Paris Rome is"
    for rows in ([2], [0, 1]):  # any order, in pieces
        scorer.add(rows, {name: values[rows] for name, values in logits.items()})
    (tmp_path / "answers").mkdir()
    given = scorer.finish(tmp_path / "answers")
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == ["nbest.json", "predictions.json"]
    predictions = json.loads((tmp_path / "answers" / "predictions.json").read_text())
    assert list(predictions) == ["a", "b", "c"] and predictions["a"] == "Paris"
    best = json.loads((tmp_path / "answers" / "nbest.json").read_text())
    assert {name: answers[0]["text"] for name, answers in best.items()} == predictions
    assert (
        sorted(best["a"][0]) == ["end_logit", "probability", "start_logit", "text"]
        and best["a"][0]["start_logit"] == 10
    )
    references = {"a": "Paris", "b": "Rome", "c": "nobody"}
    assert given["exact_match"] == pytest.approx(
        100 * sum(predictions[name] == text for name, text in references.items()) / 3
    )
    assert given["exact_match"] < given["f1"] < 100 and set(given) == {"exact_match", "f1"}


def test_perfect_logits_are_100(site):
    data = site.open("eval")
    scorer = data.scorer()
    scorer.add(range(3), perfect(data))
    assert scorer.finish(None) == {"exact_match": 100, "f1": 100}


def test_version_2(site, tmp_path):
    data = site.open("eval", squad_dev=site.path / "dev2.json")
    scorer = data.scorer()
    scorer.add(range(2), perfect(data))
    assert scorer.finish(tmp_path) == dict.fromkeys(
        ("exact_match", "f1", "has_answer_exact_match", "has_answer_f1", "no_answer_exact_match", "no_answer_f1"), 100
    )
    assert json.loads((tmp_path / "null_odds.json").read_text()) == {"a": -20, "no": 20}
    assert json.loads((tmp_path / "predictions.json").read_text()) == {"a": "Paris", "no": ""}


def test_the_last_outputs_of_a_sample_count(site):
    data = site.open("eval")
    scorer, logits = data.scorer(), perfect(data)
    scorer.add(range(3), {name: np.zeros_like(values) for name, values in logits.items()})
    scorer.add(range(3), logits)
    logits["start_logits"][:] = 0  # the caller may use its arrays again
    assert scorer.finish(None)["exact_match"] == 100


def test_the_first_samples_of_a_set_are_scored_alone(site, tmp_path):
    data = FirstSamples(site.open("eval"), 2)
    assert data.scored == ("start_logits", "end_logits")
    scorer = data.scorer()
    scorer.add(range(2), perfect(data))
    assert scorer.finish(tmp_path) == {"exact_match": 100, "f1": 100}
    assert list(json.loads((tmp_path / "predictions.json").read_text())) == ["a", "b"]


def test_logits_that_are_not_finite_are_one_line(site):
    data = site.open("eval")
    scorer, logits = data.scorer(), perfect(data)
    logits["end_logits"][1, 5] = np.nan
    scorer.add(range(3), logits)
    with pytest.raises(RunError, match="the model's logits for question b are not finite"):
        scorer.finish(None)


def test_files_that_cannot_be_written_are_one_line(site, tmp_path, monkeypatch):
    data = site.open("eval")
    scorer = data.scorer()
    scorer.add(range(3), perfect(data))

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="cannot write .*predictions.json: No space left on device"):
        scorer.finish(tmp_path)


def test_one_question_of_a_user(site):
    """What a prediction for a question and a context of one's own needs: no file, no reference answer."""
    question = Question("mine", "Where?", CONTEXT)
    features = make_features(
        [question], WordPieceTokenizer.load(site.vocab), FeatureSettings(10, 3, 4), False, LeftOut()
    )
    assert len(features) > 2
    scorer = AnswerScorer([question], features, AnswerSettings(n_best_size=3), may_be_impossible=False)
    starts, ends = np.zeros((2, len(features), 10), np.float32)
    scorer.add([1], {"start_logits": starts[1:2], "end_logits": ends[1:2]})
    assert scorer.predictions() == {}  # not before its first window is there
    index = next(index for index in range(len(features)) if features.window(index).max_context[-1])
    window = features.window(index)
    starts[index, window.position + len(window.spans) - 1] = ends[index, window.position + len(window.spans) - 1] = 9
    scorer.add(range(len(features)), {"start_logits": starts, "end_logits": ends})
    best = scorer.predictions()["mine"].candidates[0]
    begin, end = window.spans[-1]
    assert (best.text, best.start, best.end) == (CONTEXT[begin:end], begin, end) and best.probability > 0.9


def test_the_real_questions(tmp_path, monkeypatch):
    """Perfect logits on the development sample, from raw JSON to figures: 99.0, as tokens that an annotation cuts
    allow.
    """
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path))
    config, _ = parse(
        [
            "--plugins",
            "inter_first,bert,squad",
            "--squad_train",
            str(shared("squad/train-sample.json")),
            "--squad_dev",
            str(shared("squad/dev-sample.json")),
            "--vocab",
            str(shared("bert-base-uncased-vocab.txt")),
            "--seq_length",
            "384",
            "--eval_every",
            "5",
        ]
    )
    data = plugin.pipeloom_open_dataset(config=config, split="eval")
    assert isinstance(data, SquadDataset) and len(data) == 400 and data.vocab_size == 30522
    places = data.read(range(400), ["start_positions", "end_positions"])
    scorer = data.scorer()
    for first in range(0, 400, 64):
        rows = np.arange(first, min(first + 64, 400))
        scorer.add(
            rows,
            {
                name: 10 * np.eye(384, dtype=np.float32)[column[rows, 0]]
                for name, column in zip(data.scored, places.values())
            },
        )
    assert scorer.finish(None)["exact_match"] == 99.0
    assert len(read_articles(data.path / "questions.json", training=False).questions) == 400
