"""A micro-batch of one sample on one data-parallel rank, where the engine knows no split (docs/oneflow-notes.md)."""

from __future__ import annotations

import numpy as np

from pipeloom.core.checkpoint.initialization import initial_value
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.executor import ProgramSpec, StepSettings
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.core.planning.planner import make_plan
from pipeloom.plugins.datasets.wiki_ofrecord import _fields
from pipeloom.plugins.libraries.ofrecord.records import write_part

#: A vocabulary of its own size, since no vocab.txt lies beside the records.
VOCABULARY, LENGTH, PREDICTIONS, STEPS = 50, 8, 1, 2


def write_record(path):
    rng, fields = np.random.default_rng(4), _fields(LENGTH, PREDICTIONS, VOCABULARY)
    record = {field.name: rng.integers(0, field.high or 2, field.shape).astype(field.dtype) for field in fields}
    record["input_mask"][:], record["masked_lm_weights"][:] = 1, 1
    write_part(path, [record])


def train(flow, path, batch_size):
    """Losses of two steps of SGD and the norms of the gradients; a batch is the one record, again and again."""
    options = {
        "plugins": "inter_first,bert,wiki_ofrecord",
        "ofrecord_path": path,
        "vocab_size": VOCABULARY,
        "seq_length": LENGTH,
        "max_predictions": PREDICTIONS,
        "nnodes": 1,
        "nproc_per_node": 1,
        "device": "cpu",
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "hidden_size": 8,
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0,
        "train_global_batch_size": batch_size,
        "grad_acc_steps": 1,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "warmup_steps": 0,
    }
    config, plugins = parse([f"--{name}={value}" for name, value in options.items()])
    plan = make_plan(config, plugins)
    hook = plugins.hook
    executor = hook.pipeloom_executor(config=config)
    program = executor.build(
        ProgramSpec(
            plan.model,
            plan.split,
            plan.placement,
            plan.mesh,
            plan.dataset.fields,
            0,
            lambda spec: initial_value(spec, 3),
        )
    )
    training = program.train(
        StepSettings(max_norm=1.0),
        hook.pipeloom_build_optimizer(config=plan.config, parameters=list(plan.model.parameters)),
        hook.pipeloom_lr_schedule(config=plan.config),
        TrainingBatches(plan.dataset, plan.order(), plan.model.normalize, 3),
    )
    read = [training.read(training.step(step)) for step in range(STEPS)]
    return np.array([losses for losses, _ in read]), np.array([read[-1][1]])


def test_one_sample_of_one_prediction_trains_as_the_same_one_twice(tmp_path):
    """Without dropout: its masks would differ, and they hid the fault."""
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    flow = import_oneflow()
    write_record(tmp_path / "part-0")
    (one, norm), (twice, other) = (train(flow, tmp_path / "part-0", size) for size in (1, 2))
    assert one.shape == (STEPS, 2) and abs(one[0] - one[1]).max() > 0.01
    np.testing.assert_allclose(one, twice, rtol=1e-5)
    np.testing.assert_allclose(norm, other, rtol=1e-5)


def test_one_data_parallel_rank_has_the_samples_whole_and_several_split_them():
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    flow = import_oneflow()
    from pipeloom.plugins.executors.oneflow.axes import over_data

    broadcast, split = flow.sbp.broadcast, flow.sbp.split
    for ranks, expected in (([0], broadcast), ([0, 1], split(1)), ([[0, 1]], broadcast), ([[0, 1], [2, 3]], split(1))):
        assert over_data(flow.placement("cpu", ranks), 1) == expected
