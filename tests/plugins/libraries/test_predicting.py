"""Outputs per sample: of MiniLM against numpy, in one process and through a pipeline; and what a model must have for
it.
"""

from __future__ import annotations

import json
from pathlib import Path

import hidden_states
import numpy as np
import pytest
import reference_bert
from jobs import train
from minilm import HEADS, LAYERS, minilm
from safetensors.numpy import load_file, save_file

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.huggingface.predicting import predict

fast = pytest.mark.fast
PLUGIN = hidden_states.__file__
LENGTH = 32


@pytest.fixture(scope="module")
def samples():
    """Five, of different lengths, with two segments; batches of 4 do not divide them."""
    generator = np.random.default_rng(3)
    ids = generator.integers(1000, 30000, (5, LENGTH)).astype(np.int32)
    lengths = np.array([[LENGTH], [20], [5], [31], [12]])
    mask = (np.arange(LENGTH) < lengths).astype(np.int32)
    return {
        "input_ids": ids * mask,
        "input_mask": mask,
        "segment_ids": (np.arange(LENGTH) > lengths // 2).astype(np.int32) * mask,
    }


@pytest.fixture(scope="module")
def expected(samples):
    """By numpy in float64."""
    weights = {
        f"bert.{name}": value.astype(np.float64)
        for name, value in load_file(str(minilm() / "model.safetensors")).items()
        if value.dtype == np.float32
    }
    return reference_bert.encode(weights, samples, LAYERS, HEADS)


def test_minilm_in_one_process_is_what_numpy_finds(samples, expected):
    """Hidden states up to 7 in size, in float32: 1e-4 is what is promised, 1e-5 is what comes of rounding."""
    found = predict(str(minilm()), hidden_states.TASK, samples, batch_size=4, plugins=[PLUGIN])["hidden_states"]
    assert found.dtype == np.float32 and found.shape == expected.shape and np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def trained(directory, samples, folder, *flags):
    """The hidden states that an evaluation in a layout collects, and its figures.

    The rate of the first step is 0 with a warmup, so the evaluation after it sees the weights of the folder.
    """
    np.savez(directory / "samples.npz", **samples)
    train(
        directory / "run",
        "--samples_file",
        directory / "samples.npz",
        "--init_from",
        folder,
        "--seq_length",
        samples["input_ids"].shape[1],
        "--train_steps",
        "1",
        "--warmup_steps",
        "1",
        "--train_global_batch_size",
        "4",
        "--grad_acc_steps",
        "2",
        "--eval_every",
        "1",
        "--save_every",
        "0",
        *flags,
        data=f"{PLUGIN},manual",
    )
    (evaluation,) = map(json.loads, (directory / "run" / "evaluation.jsonl").read_text().splitlines())
    return np.load(directory / "run" / "evaluations" / "step_0000001" / "hidden_states.npy"), evaluation


def test_minilm_in_two_stages_on_two_nodes_is_what_numpy_finds(samples, expected, tmp_path):
    found, evaluation = trained(
        tmp_path, samples, minilm(), "--nnodes", "2", "--nproc_per_node", "1", "--nums_split", "2", "--split", "4,4"
    )
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert evaluation == {
        "step": 1,
        "loss": evaluation["square"],
        "square": pytest.approx((expected**2).mean(), rel=1e-5),
        "largest": pytest.approx(np.abs(expected).max(), abs=1e-4),
        "samples": 5,
    }


def test_two_tensor_groups_give_each_sample_once(folder, tmp_path):
    """The collected rows are those of one process, in their order, however ranks share samples and heads."""
    generator = np.random.default_rng(5)
    some = {
        **{name: np.ones((5, 16), np.int32) for name in ("input_mask", "segment_ids")},
        "input_ids": generator.integers(0, 40, (5, 16)).astype(np.int32),
    }
    alone = predict(str(folder), hidden_states.TASK, some, plugins=[PLUGIN])["hidden_states"]
    found, evaluation = trained(
        tmp_path,
        some,
        folder,
        "--vocab_size",
        "40",
        "--nnodes",
        "1",
        "--nproc_per_node",
        "4",
        "--nums_split",
        "1",
        "--tensor_parallel",
        "2",
        "--split",
        "3",
    )
    np.testing.assert_allclose(found, alone, atol=1e-5, rtol=0)
    assert evaluation["samples"] == 5 and np.abs(alone[0] - alone[1]).max() > 0.1


# --- what a model must have


@pytest.fixture
def folder(tmp_path):
    """A BertModel of one layer."""
    from pipeloom.core.commands.cli import parse
    from pipeloom.core.host.task_choice import find_task

    flags = [
        "--num_hidden_layers",
        "1",
        "--num_attention_heads",
        "2",
        "--hidden_size",
        "8",
        "--max_position_embeddings",
        "40",
    ]
    config, plugins = parse(["--plugins", f"bert,{PLUGIN}", "--seq_length", "16", "--vocab_size", "40", *flags])
    model = plugins.hook.pipeloom_build_model(config=config, task=find_task(plugins, config, hidden_states.TASK))
    values = {spec.name: np.random.default_rng(7).standard_normal(spec.shape, np.float32) for spec in model.parameters}
    save_file(values, str(tmp_path / "model.safetensors"))
    (tmp_path / "config.json").write_text(json.dumps(dict(model.huggingface)))
    return tmp_path


def arrays(**changes):
    return {**{name: np.ones((3, 16), np.int32) for name in ("input_ids", "input_mask", "segment_ids")}, **changes}


@fast
@pytest.mark.parametrize(
    "task, fields, says",
    [
        (
            "question_answering",
            arrays(),
            "it is not trained for 'question_answering': it has no qa_outputs.weight, qa_outputs.bias$",
        ),
        (
            "question_answerin",
            arrays(),
            "no selected plugin has the task 'question_answerin', which .* .did you mean 'question_answering'",
        ),
        ("pretraining", arrays(), "^the task 'pretraining' has no outputs per sample to predict$"),
        (
            "hidden_states",
            arrays(input_ids=np.full((3, 16), 40, np.int32)),
            r"field 'input_ids' has values that are not in 0 \.\. 39$",
        ),
        (
            "hidden_states",
            arrays(input_ids=np.full((3, 16), -1, np.int32)),
            r"field 'input_ids' has values that are not in 0 \.\. 39$",
        ),
        (
            "hidden_states",
            arrays(input_mask=np.ones((2, 16), np.int32)),
            "field 'input_ids' has 3 samples, others have 2",
        ),
        ("hidden_states", arrays(input_ids=np.ones((3, 16))), "field 'input_ids' is of float64: give int32 or float32"),
        (
            "hidden_states",
            arrays(input_ids=np.ones((3, 41), np.int32)),
            "--seq_length 41 is longer than --max_position_embeddings 40",
        ),
        (
            "hidden_states",
            {"input_ids": np.ones((3, 16), np.int32)},
            "predicting 'hidden_states' needs the field 'segment_ids'",
        ),
    ],
)
def test_what_cannot_be_predicted_is_one_line(folder, task, fields, says):
    with pytest.raises(UsageError, match=says) as error:
        predict(str(folder), task, fields, plugins=[PLUGIN])
    assert "\n" not in str(error.value)


@fast
def test_a_model_that_no_plugin_knows(folder: Path):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "model_type": "brt"}))
    with pytest.raises(UsageError, match="no plugin 'brt' .did you mean 'bert'"):
        predict(str(folder), hidden_states.TASK, arrays(), plugins=[PLUGIN])
