"""Evaluation during training: against numpy, in several layouts, and that training does not notice it.

45 held-out records: batches of 8 do not divide them. The vocabulary of 30523 does not divide over a tensor group.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import reference_bert
from jobs import ONE_PROCESS, TINY, Training, train
from safetensors.numpy import load_file
from shared_data import shared
from small_datasets import Points, some_work

from pipeloom.core.checkpoint.initialization import initial_value
from pipeloom.core.contract.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT, Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.executor import ProgramSpec, StepSettings
from pipeloom.core.contract.optimizer import OptimizerSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.schedule import LRSchedule
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.batches import HeldOutBatches, TrainingBatches
from pipeloom.core.data.dropout_seeds import dropout_seeds
from pipeloom.core.data.order import SampleOrder
from pipeloom.plugins.datasets.wiki_ofrecord import _fields
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.ofrecord.records import write_part

HELD_OUT = 45


# --- a model of one block, on one rank of this process


def dropped_regression():
    """A regression whose inputs are dropped out; in evaluation it also gives the mean absolute error."""

    def build(scope):
        weight, bias = scope.parameter("weight"), scope.parameter("bias")
        drop, work = scope.dropout("input", 0.5, (3,)), scope.constant("work", some_work)

        def block(hidden, fields):
            prediction = scope.ops.linear(drop(fields["x"], fields[DROPOUT_SEEDS]), weight, bias)
            error = prediction - fields["y"] + scope.ops.matmul(work, work).sum()
            results = {"error": (error * error * fields["weights"]).sum()}
            if not scope.training:
                results["absolute"] = (error.abs() * fields[SAMPLE_WEIGHT]).sum()
            return results

        return block

    parameters = (ParameterSpec("weight", (1, 3), std=1.0), ParameterSpec("bias", (1,), "ones"))
    block = Block("regression", parameters, Cost(1, 1, 1), ("x", "y", "weights", SAMPLE_WEIGHT, DROPOUT_SEEDS), build)
    return ModelSpec(
        "regression", "regression", (block,), {"error": 0.5}, metrics=("absolute",), normalize=("weights",)
    )


def train_and_evaluate(evaluate_after, steps=4):
    """Losses of training, parameters after each step, evaluations by step."""
    from pipeloom.plugins.executors.oneflow import OneFlow

    model, data = dropped_regression(), Points(32)
    placement = Placement.of(Cluster(1, 1), [[0]])
    executor = OneFlow()
    executor.start()
    program = executor.build(
        ProgramSpec(model, (1,), placement, Mesh(1, 1, 1), data.fields, 0, lambda spec: initial_value(spec, 11))
    )
    training = program.train(
        StepSettings(2),
        OptimizerSpec("sgd"),
        LRSchedule(0.1, "constant", 0, steps),
        TrainingBatches(data, SampleOrder(32, 8, 2, True), model.normalize, 11),
    )
    evaluator = program.evaluator(HeldOutBatches(Points(13), 4, model.normalize))
    losses, parameters, evaluations = [], [], {}
    for step in range(steps + 1):
        if step:
            losses.append(training.read(training.step(step - 1))[0])
            training.finish_step(step)
        names = [spec.name for spec in program.parameters]
        parameters.append({name: value.copy() for name, value in zip(names, program.weights())})
        if step in evaluate_after:
            evaluations[step] = evaluator.evaluate()
    return np.array(losses), parameters, evaluations


@pytest.fixture(scope="module")
def undisturbed():
    return train_and_evaluate(())


def test_training_itself_has_dropout(undisturbed):
    from pipeloom.core.contract.dropout_masks import kept_mask

    losses, parameters, _ = undisturbed
    batch = {name: value[SampleOrder(32, 8, 2, True).indices(0)] for name, value in Points(32).values.items()}
    kept = kept_mask("input", 0.5, dropout_seeds(11, 0, 8), 3) * 2.0
    error = (batch["x"] * kept) @ parameters[0]["weight"].T + parameters[0]["bias"] - batch["y"]
    assert losses[0].sum() == pytest.approx((error**2 * batch["weights"]).sum() / batch["weights"].sum(), rel=1e-5)


@pytest.mark.parametrize("after", [(0, 2, 4), (1, 2, 3)])
def test_an_evaluation_before_or_after_the_first_step(undisturbed, after):
    """Without dropout by the parameters of that moment; and the steps are bit for bit those of a run without
    evaluation.
    """
    losses, parameters, evaluations = train_and_evaluate(after)
    np.testing.assert_array_equal(losses, undisturbed[0])
    for mine, other in zip(parameters, undisturbed[1]):
        assert all((mine[name] == other[name]).all() for name in other)
    assert tuple(evaluations) == after
    values = Points(13).values
    for step, found in evaluations.items():
        error = values["x"] @ parameters[step]["weight"].T.astype(np.float64) + parameters[step]["bias"] - values["y"]
        squares = (error**2 * values["weights"]).sum() / values["weights"].sum()
        assert found == {
            "loss": pytest.approx(squares / 2, rel=1e-5),
            "error": pytest.approx(squares, rel=1e-5),
            "absolute": pytest.approx(np.abs(error).mean(), rel=1e-5),
        }


# --- BERT, as a user runs it


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """A part of the last records of the public file, and their fields."""
    fields = _fields(128, 20, 30523)
    data = OFRecordDataset(shared("wiki_ofrecord_seq_len_128"), fields, "pretraining", 30523)
    values = data.read(range(len(data) - HELD_OUT, len(data)), list(data.fields))
    path = tmp_path_factory.mktemp("held_out") / "part-0"
    write_part(path, [{name: value[index] for name, value in values.items()} for index in range(HELD_OUT)])
    return path, values


@pytest.fixture(scope="module")
def flags(held_out):
    return [
        "--ofrecord_path",
        shared("wiki_ofrecord_seq_len_128"),
        "--vocab_size",
        "30523",
        *TINY,
        "--num_hidden_layers",
        "1",
        "--num_attention_heads",
        "2",
        "--hidden_size",
        "64",
        "--grad_acc_steps",
        "2",
        "--train_steps",
        "3",
        "--learning_rate",
        "0.01",
        "--warmup_steps",
        "0",
    ]


@pytest.fixture(scope="module")
def evaluating(flags, held_out):
    return [*flags, "--eval_every", "2", "--eval_path", held_out[0]]


@pytest.fixture(scope="module")
def one_process(evaluating, tmp_path_factory):
    """Under way, beside the first layout that is compared with it."""
    return Training(
        tmp_path_factory.mktemp("one_process") / "run", *evaluating, *ONE_PROCESS, "--save_final_weights", "true"
    )


def evaluations(directory):
    return [json.loads(line) for line in (directory / "evaluation.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "layout",
    [
        ["--nums_split", "2", "--shard", "parameters"],
        ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1", "--tensor_parallel", "2"],
    ],
    ids=["two stages of two data-parallel ranks with spread parameters", "a tensor group"],
)
def test_the_layout_changes_nothing(one_process, evaluating, layout, tmp_path):
    """Losses near 10 to a few units in the last place of float32 (1e-6), after steps that are equal to about 1e-6
    themselves.

    An accuracy would change by 1/715 if rounding turned the order of the two largest logits round, which it does not
    here.
    """
    train(tmp_path / "run", *evaluating, *layout)
    one_process.curve()
    for mine, single in zip(evaluations(tmp_path / "run"), evaluations(one_process.directory)):
        assert mine == {
            name: pytest.approx(value, abs=1e-6 if name.endswith("accuracy") else 5e-6)
            for name, value in single.items()
        }


def test_the_last_evaluation_is_what_numpy_finds_with_the_final_weights(one_process, held_out):
    one_process.curve()
    found = evaluations(one_process.directory)
    assert [entry.pop("step") for entry in found] == [2, 3]  # every second step, and the last one
    expected = reference_bert.evaluate(
        load_file(str(one_process.directory / "final_weights.safetensors")), held_out[1], layers=1, heads=2
    )
    assert set(found[-1]) == set(expected)
    for name, value in expected.items():
        assert found[-1][name] == pytest.approx(value, abs=1e-5), name
    # Some of 715 words and most of 45 pairs: neither all nor nothing.
    assert 0.01 < found[-1]["mlm_accuracy"] < 0.5 and 0.3 < found[-1]["nsp_accuracy"] < 0.9
