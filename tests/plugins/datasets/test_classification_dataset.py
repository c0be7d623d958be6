"""The plugin 'classification': texts with labels as a dataset, what the model is told of them, and the scorer."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file
from squad_files import write_vocab

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.goal import Goal
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import describe_plan
from pipeloom.plugins.libraries.classification.framing import Frame, cut
from pipeloom.plugins.libraries.classification.label_scorer import LabelScorer

pytestmark = pytest.mark.fast

TRAIN = "sentence\tlabel\ngood film\tpos\nbad film\tneg\na good good film\tpos\n"
WORDS = ("good", "bad", "film", "a", "##s")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """``plan(...)``: the plan of a tiny BERT on files that are written first: their contents by name."""
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path / "cache"))
    vocab = write_vocab(tmp_path / "vocab.txt", *WORDS)

    def plan(*flags, train=TRAIN, dev=None, name="train.tsv", **more):
        for file, content in {name: train, **({} if dev is None else {"dev.tsv": dev}), **more}.items():
            (tmp_path / file).write_text(content)
        given = [] if dev is None else ["--dev_file", tmp_path / "dev.tsv"]
        files = [] if "--train_file" in flags else ["--train_file", tmp_path / name]
        start = [] if "--init_from" in flags else ["--vocab", vocab, "--num_hidden_layers", 1]
        every = ["--plugins", "inter_first,bert,classification", "--seq_length", 8, *files, *start, *given, *flags]
        return make_plan(*parse([str(flag) for flag in every]))

    return SimpleNamespace(plan=plan, folder=tmp_path, vocab=vocab)


def refused(site, *flags, **files):
    with pytest.raises(UsageError) as error:
        site.plan(*flags, **files)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{site.folder}/", "")


def labels(data):
    return data.read(range(len(data)), ["labels"])["labels"][:, 0].tolist()


def test_classes_are_known_to_the_head_the_checkpoint_and_the_evaluation(site):
    plan = site.plan(dev="sentence\tlabel\nbad\tneg\n")
    assert plan.config.labels == ["neg", "pos"] and plan.config.regression is False
    assert labels(plan.dataset) == [1, 0, 1] and labels(plan.evaluation) == [0]
    assert plan.model.scores == {"logits": (2,)} and plan.goal == Goal("accuracy", True)
    said = plan.model.huggingface
    assert said["architectures"] == ["BertForSequenceClassification"] and said["id2label"] == {"0": "neg", "1": "pos"}
    assert said["label2id"] == {"neg": 0, "pos": 1} and said["problem_type"] == "single_label_classification"
    names = [spec.name for spec in plan.model.blocks[-1].parameters]
    layers = ("bert.pooler.dense", "classifier")
    assert names == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    line = next(line for line in describe_plan(plan).splitlines() if line.startswith("data"))
    assert line.endswith(f"3 texts with 2 classes in {site.folder}/train.tsv (text sentence, label label)")


def test_inputs_are_those_of_bert_and_long_ones_are_cut(site):
    pairs = "sentence1\tsentence2\tlabel\na film\tgood films\tx\na film\tbad\ty\nfilm film film film\ta good\tx\n"
    plan = site.plan(train=pairs)
    (read,) = [plan.dataset.read([0, 1, 2], ["input_ids", "input_mask", "segment_ids"])]
    words = site.vocab.read_text().split()
    # Three of four and two of two are what is left of five; each sentence has its separator.
    assert [[words[number] for number in row] for row in read["input_ids"]] == [
        ["[CLS]", "a", "film", "[SEP]", "good", "film", "##s", "[SEP]"],
        ["[CLS]", "a", "film", "[SEP]", "bad", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "film", "film", "film", "[SEP]", "a", "good", "[SEP]"],
    ]
    assert read["input_mask"].tolist() == [[1] * 8, [1] * 6 + [0] * 2, [1] * 8]
    assert read["segment_ids"].tolist() == [[0] * 4 + [1] * 4, [0] * 4 + [1] * 2 + [0] * 2, [0] * 5 + [1] * 3]
    assert "1 are longer than 8 tokens and cut" in plan.dataset.describe()


def test_robertas_frame_has_two_separators_and_one_segment():
    frame = Frame(0, 2, 1, between=2, segments=False)
    ids, used, begin = frame.inputs(np.int32([7, 8]), np.int32([9]), 9)
    assert ids.tolist() == [0, 7, 8, 2, 2, 9, 2, 1, 1] and used == begin == 7


def test_the_longer_text_is_cut_as_huggingface_does():
    """Values of tokenizers 0.22, longest_first."""
    cases = {(3, 4, 10): (3, 4), (9, 2, 6): (4, 2), (2, 9, 6): (2, 4), (9, 9, 7): (3, 4), (10, 9, 7): (4, 3)}
    cases.update({(8, 8, 6): (3, 3), (9, 0, 5): (5, 0), (4, 3, 6): (3, 3), (3, 4, 6): (3, 3)})
    assert {case: cut(*case) for case in cases} == cases


def test_the_order_of_classes_is_stated(site):
    def classes(*values, flags=()):
        train = "text\tlabel\n" + "".join(f"good\t{value}\n" for value in values)
        return site.plan(*flags, train=train).config.labels

    assert classes("10", "9", "-1", "9.0") == ["-1", "9", "10"]  # whole numbers by size
    assert classes("b", "10", "9") == ["10", "9", "b"]
    assert classes("b", "a", flags=("--labels", "b,a,c")) == ["b", "a", "c"]
    assert classes("1.5", "2", flags=("--regression", "false")) == ["1.5", "2"]


def hf_folder(site, **config):
    folder = site.folder / "start"
    folder.mkdir(exist_ok=True)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8, "intermediate_size": 8}
    size = len(site.vocab.read_text().split())
    sizes.update(max_position_embeddings=16, vocab_size=size)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes, **config}))
    (folder / "vocab.txt").write_text(site.vocab.read_text())
    shape = (len(config.get("id2label", "ab")), 8)
    tensors = {"classifier.weight": np.ones(shape, np.float32), "classifier.bias": np.ones(shape[0], np.float32)}
    save_file({**tensors, "bert.pooler.dense.bias": np.ones(8, np.float32)}, str(folder / "model.safetensors"))
    return folder


def test_a_model_that_knows_the_classes_keeps_their_order_and_another_starts_its_last_layer_anew(site):
    same = hf_folder(site, id2label={"0": "pos", "1": "neg"})
    plan = site.plan("--init_from", same)
    assert plan.config.labels == ["pos", "neg"] and labels(plan.dataset) == [0, 1, 0]
    assert "classifier.weight" not in plan.model.weights.missing
    plan = site.plan("--init_from", hf_folder(site, id2label={"0": "x", "1": "y", "2": "z"}))
    assert plan.config.labels == ["neg", "pos"]
    assert {"classifier.weight", "classifier.bias"} <= set(plan.model.weights.missing)
    assert "bert.pooler.dense.bias" in plan.model.weights.recipes and plan.model.weights.unexpected == []
    assert "classifier.weight is [3, 8] there and [2, 8] here: it starts anew" in "\n".join(plan.model.weights.report())
    # Their defaults: as many tokens as there are positions.
    assert (plan.config.learning_rate, plan.config.train_global_batch_size) == (2e-5, 32)


def test_numbers_are_a_regression(site):
    train = "sentence1\tsentence2\tscore\n" + "".join(f"good\tbad\t{value}\n" for value in ("5.000", "3.8", "0"))
    plan = site.plan(train=train, dev=train)
    assert plan.config.regression is True and plan.config.labels is None
    assert plan.dataset.read([0, 1, 2], ["targets"])["targets"].tolist() == [[5.0], [np.float32(3.8)], [0.0]]
    assert plan.model.scores == {"logits": (1,)} and plan.goal == Goal("pearson", True)
    assert plan.model.huggingface["problem_type"] == "regression"
    assert plan.model.huggingface["id2label"] == {"0": "LABEL_0"}  # transformers counts outputs by it
    whole = "text\tscore\ngood\t5\nbad\t3\n"
    assert site.plan(train=whole).config.regression is False
    assert site.plan("--regression", "true", train=whole).config.regression is True


def test_texts_without_labels_are_only_predicted(site):
    plan = site.plan(dev="index\tsentence\n0\tgood\n1\tbad\n")
    assert "labels" not in plan.evaluation.fields and not plan.goal.measured
    assert "2 texts with no labels in" in plan.evaluation.describe()
    scorer = plan.evaluation.scorer()
    scorer.add([1, 0], {"logits": np.float32([[0.0, 1.0], [2.0, 0.0]])})
    assert scorer.finish(None) == {}
    scorer.finish(site.folder)
    lines = (site.folder / "predictions.tsv").read_text().splitlines()
    assert lines == ["index\tprediction\tprobability", "0\tneg\t0.880797", "1\tpos\t0.731059"]
    assert not (site.folder / "report.json").exists()


def test_the_scorer_measures_what_was_asked_and_leaves_a_report(site):
    plan = site.plan("--metrics", "matthews,f1", dev=TRAIN)
    assert plan.goal == Goal("matthews", True)
    scorer = plan.evaluation.scorer()
    scorer.add(range(3), {"logits": np.float32([[0, 1], [0, 1], [0, 1]])})
    scorer.add([1], {"logits": np.float32([[1, 0]])})  # what comes again counts
    assert scorer.finish(site.folder) == {"matthews": 1.0, "f1": 1.0}
    report = json.loads((site.folder / "report.json").read_text())
    assert report["classes"]["pos"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "samples": 2}
    assert report["confusion"] == {"order": ["neg", "pos"], "wanted_by_said": [[1, 0], [0, 2]]}
    scorer.add([0], {"logits": np.float32([[np.nan, 0]])})
    with pytest.raises(RunError, match="not finite: try a lower --learning_rate"):
        scorer.finish(None)


def test_a_regression_is_scored_by_its_values(site):
    scorer = LabelScorer(np.arange(3), None, np.float32([1, 2, 4]), ("pearson", "spearman"))
    scorer.add(range(3), {"logits": np.float32([[1], [3], [2]])})
    figures = {"pearson": pytest.approx(np.corrcoef([1, 2, 4], [1, 3, 2])[0, 1]), "spearman": pytest.approx(0.5)}
    assert scorer.finish(site.folder) == figures
    assert (site.folder / "predictions.tsv").read_text() == "index\tprediction\n0\t1\n1\t3\n2\t2\n"


def test_several_files_are_one_set_or_a_mixture(site):
    more = "sentence\tlabel\nfilm\tother\n"
    both = f"{site.folder}/train.tsv,{site.folder}/more.tsv"
    plan = site.plan("--train_file", both, **{"more.tsv": more})
    assert labels(plan.dataset) == [2, 0, 2, 1] and plan.config.labels == ["neg", "other", "pos"]
    plan = site.plan("--train_file", both.replace(",", ":0.75,") + ":0.25", **{"more.tsv": more})
    assert plan.dataset.mixture.shares and plan.config.labels == ["neg", "other", "pos"]


def test_tokens_are_made_once_and_again_for_another_vocabulary(site):
    def folders():
        return sorted(path.name for path in (site.folder / "cache").glob("classification-*"))

    first = site.plan().dataset.fingerprint()
    (one,) = folders()
    assert site.plan("--labels", "pos,neg", "--seq_length", 12).dataset.fingerprint() != first and folders() == [one]
    assert site.plan().dataset.fingerprint() == first
    site.plan("--lowercase", "false")
    assert len(folders()) == 2
    (site.folder / "cache" / one / "tokens.npy").write_bytes(b"damaged")
    assert site.plan().dataset.fingerprint() == first  # made again


@pytest.mark.parametrize(
    "flags, files, says",
    [
        ((), {"train": "text\nfilm\n"}, "--train_file train.tsv has no labels to learn (text text)"),
        ((), {"train": "text\tlabel\na\tx\nb\tx\n"}, "--train_file train.tsv: all rows have the label 'x'"),
        ((), {"train": "text\tlabel\n" + "".join(f"a\tn{n}\n" for n in range(21))}, "21 rows have 21 different labels"),
        (
            (),
            {"dev": "sentence\tlabel\ngood\tpos\nbad\tnge\n"},
            "dev.tsv: line 3 has the label 'nge', which is no class (did you mean 'neg'?): there are neg, pos",
        ),
        (("--labels", "pos"), {}, "--labels: all rows have the label 'pos'"),
        (("--labels", "pos,ngo"), {}, "train.tsv: line 3 has the label 'neg', which is no class (did you mean 'ngo'?)"),
        (("--labels", "pos,neg", "--regression", "true"), {}, "leave one of the two out"),
        (("--regression", "true"), {}, "train.tsv: line 2 has the label 'pos', which is no finite number"),
        (
            ("--regression", "true"),
            {"train": "text\tlabel\na\t1\nb\t1e999\n"},
            "line 3 has the label '1e999', which is no finite",
        ),
        (("--metrics", "acuracy"), {"dev": TRAIN}, "there is no such metric (did you mean 'accuracy'?)"),
        (
            ("--metrics", "pearson"),
            {"dev": TRAIN},
            "--metrics pearson is not measured of 2 classes; there is accuracy, f1",
        ),
        (
            ("--best_metric", "f2"),
            {"dev": TRAIN},
            "--best_metric f2: an evaluation of 'bert' gives loss, label_loss, accuracy",
        ),
        (("--eval_every", "5"), {}, "--eval_every 5: on which texts? give them with --dev_file"),
        (("--vocab_size", "9"), {}, "--vocab_size 9 is smaller than the vocabulary of --train_file train.tsv"),
        (
            (),
            {"dev": "sentence1\tsentence2\tlabel\na\tb\tpos\n"},
            "both stand alone or both in pairs: train.tsv (text sentence, label label), dev.tsv",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(site, flags, files, says):
    assert says in refused(site, *flags, **files)
