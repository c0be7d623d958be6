"""Question answering: the head against numpy, and a small model on real questions in two layouts, to figures, files and
checkpoint.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from jobs import ONE_PROCESS, largest_difference, train
from reference_bert import log_softmax
from shared_data import shared
from small_datasets import Numbers

from pipeloom.core.checkpoint.initialization import initial_value
from pipeloom.core.checkpoint.manifest import verify
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec
from pipeloom.core.contract.derived import with_derived
from pipeloom.core.contract.executor import ProgramSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.tasks import Encoder
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.batches import HeldOutBatches
from pipeloom.core.planning.held_out import absent_labels
from pipeloom.plugins.datasets.squad.dataset import SquadDataset
from pipeloom.plugins.libraries.huggingface.predicting import predict
from pipeloom.plugins.libraries.huggingface.source import open_pretrained, vocabulary_of
from pipeloom.plugins.libraries.questions.answers import AnswerSettings
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.tasks import QUESTION_ANSWERING

LENGTH, HIDDEN = 12, 8


# --- the head alone, on one rank of this process


def evaluate(data):
    """Losses of the head over ``data``, whose field "x" are its hidden states, and what a scorer is given."""
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    import_oneflow()
    from pipeloom.plugins.executors.oneflow import OneFlow

    config = SimpleNamespace(seq_length=LENGTH, precision="fp32")
    head = QUESTION_ANSWERING.head(config, Encoder("bert", HIDDEN, 50, LENGTH, 1e-12, "bert", "word", True))

    def build(scope):
        # Work for a few milliseconds: the engine now and then dies of a graph that is done at once
        # (docs/oneflow-notes.md).
        work = scope.constant("work", lambda: np.zeros((600, 600), np.float32))
        return lambda hidden, fields: fields["x"] + scope.ops.matmul(work, work).sum()

    model = ModelSpec(
        "head",
        "question_answering",
        (Block("hidden", (), Cost(1, 1, 1), ("x",), build), head.block),
        head.losses,
        normalize=head.normalize,
        scores=head.outputs,
        labels=head.labels,
    )
    data = with_derived(data, QUESTION_ANSWERING.derived(config))
    placement = Placement.of(Cluster(1, 1), [[0]])
    fields = {**{field.name: field for field in head.labels}, **data.fields}
    program = OneFlow().build(
        ProgramSpec(model, (2,), placement, Mesh(1, 1), fields, 0, lambda spec: initial_value(spec, 3) * 20)
    )
    taken = []
    absent = list(absent_labels(model, data).values())
    evaluator = program.evaluator(HeldOutBatches(data, 2, model.normalize, absent), data.scored)
    metrics = evaluator.evaluate(lambda *what: taken.append(what))
    return metrics, taken, {spec.name: value for spec, value in zip(program.parameters, program.weights())}


def hidden_states():
    return np.random.default_rng(1).standard_normal((5, LENGTH, HIDDEN)).astype(np.float32)


def test_the_head_is_that_of_transformers():
    """Positions behind the input are ignored, those below 0 are 0; the losses are means over the others, and their mean
    is the loss.
    """
    starts, ends = (
        np.int32([[0], [LENGTH - 1], [LENGTH], [3], [7]]),
        np.int32([[-1], [LENGTH + 30], [4], [LENGTH], [11]]),
    )
    data = Numbers(x=hidden_states(), start_positions=starts, end_positions=ends)
    data.scored = ("end_logits", "start_logits")  # in any order
    metrics, taken, weights = evaluate(data)
    logits = hidden_states().astype(np.float64) @ weights["qa_outputs.weight"].T + weights["qa_outputs.bias"]
    expected = {}
    for number, (name, places) in enumerate((("start_loss", starts), ("end_loss", ends))):
        counted = places[:, 0] < LENGTH
        losses = -np.take_along_axis(log_softmax(logits[:, :, number]), np.clip(places, 0, LENGTH - 1), axis=1)[:, 0]
        expected[name] = losses[counted].mean()
    expected["loss"] = (expected["start_loss"] + expected["end_loss"]) / 2
    assert metrics == {name: pytest.approx(value, abs=1e-5) for name, value in expected.items()}
    # Each sample once and in its place, without what fills the last batch up.
    assert [list(indices) for indices, _ in taken] == [[0, 1], [2, 3], [4]]
    for number, name in enumerate(("start_logits", "end_logits")):
        np.testing.assert_allclose(
            np.concatenate([outputs[name] for _, outputs in taken]), logits[:, :, number], atol=1e-5
        )


def test_samples_without_answers_have_outputs_and_no_loss():
    data = Numbers(x=hidden_states())
    data.scored = ("start_logits", "end_logits")
    metrics, taken, weights = evaluate(data)
    logits = hidden_states().astype(np.float64) @ weights["qa_outputs.weight"].T + weights["qa_outputs.bias"]
    assert metrics == {} and [list(indices) for indices, _ in taken] == [[0, 1], [2, 3], [4]]
    np.testing.assert_allclose(
        np.concatenate([outputs["end_logits"] for _, outputs in taken]), logits[:, :, 1], atol=1e-5
    )


def test_the_vector_of_padding_is_not_trained():
    """The loss reads the logits of padding too, and transformers' BertModel cuts off what they would do to the vector
    of [PAD].
    """
    import oneflow as flow

    from pipeloom.plugins.executors.oneflow.ops import CpuOps

    ids, placement = flow.tensor([[1, 0], [4, 1]], dtype=flow.int32), flow.placement("cpu", [0])
    ids = ids.to_global(placement=placement, sbp=flow.sbp.broadcast)
    for padding, gradient in ((0, [0, 2, 0, 0, 1]), (None, [1, 2, 0, 0, 1])):
        table = flow.nn.Parameter(flow.ones(5, 3, placement=placement, sbp=flow.sbp.broadcast))
        looked_up = CpuOps().lookup(table, ids, padding)
        assert (looked_up.numpy() == 1).all()
        looked_up.sum().backward()
        assert (table.grad.numpy() == np.float32(gradient)[:, None]).all()


# --- a small BERT on real questions, as a user runs it


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that no other test puts questions into."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("PIPELOOM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def flags(cache, tmp_path_factory):
    """A dozen questions of one article, trained on and asked, and one with a wrong offset; with dropout."""
    content = json.loads(shared("squad/train-sample.json").read_text(encoding="utf-8"))
    paragraphs, left = [], 12
    for paragraph in content["data"][0]["paragraphs"]:
        paragraphs.append({**paragraph, "qas": paragraph["qas"][: min(left, 4)]})
        left -= len(paragraphs[-1]["qas"])
        if left == 0:
            break
    moved = {**paragraphs[0]["qas"][0], "id": "moved"}
    moved["answers"] = [{**moved["answers"][0], "answer_start": 1}]
    folder = tmp_path_factory.mktemp("questions")
    for name, used in (("train.json", paragraphs), ("dev.json", [*paragraphs, {**paragraphs[0], "qas": [moved]}])):
        whole = {"version": "1.1", "data": [{**content["data"][0], "paragraphs": used}]}
        (folder / name).write_text(json.dumps(whole), encoding="utf-8")
    return [
        "--squad_train",
        folder / "train.json",
        "--squad_dev",
        folder / "dev.json",
        "--vocab",
        shared("bert-base-uncased-vocab.txt"),
        "--seq_length",
        "64",
        "--doc_stride",
        "24",
        "--max_query_length",
        "20",
        "--num_hidden_layers",
        "2",
        "--num_attention_heads",
        "2",
        "--hidden_size",
        "64",
        "--train_global_batch_size",
        "8",
        "--grad_acc_steps",
        "2",
        "--log_every",
        "1",
        "--train_steps",
        "20",
        "--warmup_steps",
        "2",
        "--learning_rate",
        "0.003",
    ]


@pytest.fixture(scope="module")
def one_process(flags, tmp_path_factory):
    """Its curve and its directory."""
    directory = tmp_path_factory.mktemp("one_process") / "run"
    return train(directory, *flags, *ONE_PROCESS, "--eval_every", "10", data="squad"), directory


def evaluations(directory):
    return [json.loads(line) for line in (directory / "evaluation.jsonl").read_text().splitlines()]


def answers(directory, step):
    return json.loads((directory / "evaluations" / f"step_{step:07d}" / "predictions.json").read_text())


def test_it_learns_from_real_questions(one_process):
    curve, directory = one_process
    # Uniform over 64 tokens is 4.16.
    assert curve[0]["loss"] == pytest.approx(np.log(64), abs=0.1) and curve[-1]["loss"] < 3.5
    assert all(entry["loss"] == pytest.approx((entry["start_loss"] + entry["end_loss"]) / 2) for entry in curve)
    assert [entry["step"] for entry in evaluations(directory)] == [10, 20]
    assert sorted(evaluations(directory)[0]) == ["end_loss", "exact_match", "f1", "loss", "start_loss", "step"]
    assert len(answers(directory, 10)) == len(answers(directory, 20)) == 13
    best = json.loads((directory / "checkpoints" / "best").read_text())
    assert best["metric"] == "f1" and best["value"] == max(entry["f1"] for entry in evaluations(directory)) > 0


def test_two_stages_on_two_nodes_are_one_process(one_process, flags, tmp_path):
    curve = train(tmp_path / "run", *flags, "--nnodes", "2", "--nproc_per_node", "1", "--nums_split", "2", data="squad")
    assert largest_difference(curve, one_process[0]) < 1e-4
    (mine,) = evaluations(tmp_path / "run")  # after the last step alone: nobody said how often
    assert mine == {name: pytest.approx(value, abs=1e-4) for name, value in evaluations(one_process[1])[-1].items()}
    assert answers(tmp_path / "run", 20) == answers(one_process[1], 20)


def test_its_checkpoint_answers_the_same_by_itself(one_process, cache):
    """With the vocabulary in it, and nothing of the run: the very logits, so the very answers."""
    directory = one_process[1]
    folder = open_pretrained(str(directory)).path
    assert {"vocab.txt", "tokenizer_config.json"} <= set(verify(folder).files) and folder.name == "step_0000020"
    assert vocabulary_of(str(directory)) == vocabulary_of(str(folder)) == Vocabulary(folder)
    assert Vocabulary(folder).read().lowercase is True
    assert (folder / "vocab.txt").read_bytes() == shared("bert-base-uncased-vocab.txt").read_bytes()
    (inputs,) = cache.glob("squad-eval-*")
    data = SquadDataset(inputs, None, 30522, AnswerSettings())
    fields = data.read(range(len(data)), ["input_ids", "input_mask", "segment_ids"])
    outputs = predict(str(directory), "question_answering", fields, batch_size=5)
    scorer = data.scorer()
    scorer.add(range(len(data)), outputs)
    figures = scorer.finish(None)
    assert figures == {name: evaluations(directory)[-1][name] for name in figures}
    # The loss is the mean over the windows whose place is known: without those of the answer that is not at its offset.
    for which in ("start", "end"):
        places = data.read(range(len(data)), [f"{which}_positions"])[f"{which}_positions"]
        known = places[:, 0] < 64
        assert 0 < (~known).sum() < 6
        logs = log_softmax(outputs[f"{which}_logits"].astype(np.float64))
        losses = -np.take_along_axis(logs[known], places[known], axis=1)
        assert evaluations(directory)[-1][f"{which}_loss"] == pytest.approx(losses.mean(), abs=1e-5)
    assert {name: one.text for name, one in scorer.predictions().items()} == answers(directory, 20)
