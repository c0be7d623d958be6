"""The executor on one rank against numpy: operations, dropout, a whole step with accumulation and clipping."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from small_datasets import Points, some_work

from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.executor import ProgramSpec, StepSettings
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.schedule import LRSchedule
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.core.data.order import SampleOrder


@pytest.fixture(scope="module")
def flow():
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    return import_oneflow()


@pytest.fixture(scope="module")
def ops(flow):
    from pipeloom.plugins.executors.oneflow.cuda import ops_for

    return ops_for("cpu")


def as_global(flow, array, requires_grad=False):
    tensor = flow.from_numpy(np.ascontiguousarray(array)).to_global(
        placement=flow.placement("cpu", [0]), sbp=flow.sbp.broadcast
    )
    return tensor.detach().requires_grad_(requires_grad)


def check_gradients(flow, operation, reference, *arrays, tolerance=2e-3):
    """Compare value and gradients of ``operation`` with ``reference`` in float64 and its central differences."""
    tensors = [as_global(flow, array.astype(np.float32), True) for array in arrays]
    result = operation(*tensors)
    value = reference(*arrays)
    np.testing.assert_allclose(result.numpy(), value, rtol=2e-5, atol=2e-5)
    weights = np.random.default_rng(1).standard_normal(value.shape)
    (result * as_global(flow, weights.astype(np.float32))).sum().backward()
    for tensor, array in zip(tensors, arrays):
        expected = np.empty_like(array)
        for index in np.ndindex(*array.shape):
            kept, step = array[index], 1e-5
            array[index] = kept + step
            above = (reference(*arrays) * weights).sum()
            array[index] = kept - step
            expected[index] = (above - (reference(*arrays) * weights).sum()) / (2 * step)
            array[index] = kept
        np.testing.assert_allclose(
            tensor.grad.numpy(), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
        )


def test_linear(flow, ops):
    rng = np.random.default_rng(0)
    check_gradients(
        flow, ops.linear, lambda x, w, b: x @ w.T + b, *(rng.standard_normal(s) for s in ((5, 4), (3, 4), (3,)))
    )


def test_add_row(flow, ops):
    rng = np.random.default_rng(0)
    check_gradients(flow, ops.add_row, lambda x, r: x + r, rng.standard_normal((5, 4)), rng.standard_normal(4))


def test_layer_norm(flow, ops):
    def reference(x, weight, bias):
        center = x - x.mean(-1, keepdims=True)
        return center / np.sqrt((center**2).mean(-1, keepdims=True) + 1e-12) * weight + bias

    rng = np.random.default_rng(0)
    check_gradients(
        flow,
        lambda x, w, b: ops.layer_norm(x, w, b, 1e-12),
        reference,
        rng.standard_normal((6, 8)) * 3 + 1,
        rng.standard_normal(8),
        rng.standard_normal(8),
    )


def test_gelu_is_exact(flow, ops):
    x = np.linspace(-6, 6, 49)
    check_gradients(flow, ops.gelu, lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))), x)


def test_the_activations_of_huggingface_folders(flow, ops):
    """By the formulas of transformers' activations.py."""
    formulas = {
        "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "relu": lambda x: np.maximum(x, 0),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    }
    for name, formula in formulas.items():
        check_gradients(flow, lambda x, name=name: ops.activation(name, x), formula, np.linspace(-6, 6, 48))
    for others, one in (
        (("gelu_pytorch_tanh", "gelu_fast"), "gelu_new"),
        (("swish",), "silu"),
        (("gelu_python",), "gelu"),
    ):
        x = as_global(flow, np.linspace(-3, 3, 7, dtype=np.float32))
        for other in others:
            np.testing.assert_array_equal(ops.activation(other, x).numpy(), ops.activation(one, x).numpy())


def test_gelu_and_its_gradient_far_out(flow, ops):
    """Where exp and the square leave float32."""
    x = as_global(flow, np.float32([-1e30, -100.0, -0.0, 100.0, 1e30]), requires_grad=True)
    y = ops.gelu(x)
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), np.float32([0.0, 0.0, 0.0, 100.0, 1e30]))
    np.testing.assert_array_equal(x.grad.numpy(), np.float32([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_cross_entropy_of_large_logits(flow, ops):
    """A wrong answer may cost more than the floor of a kernel that takes the logarithm of a rounded probability."""
    labels = np.array([0, 1, 2], np.int32)
    logits = np.array([[1.0, 2.0, 0.5], [30.0, 0.0, 3.0], [60.0, 5.0, 0.0]], np.float32)
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(3), labels]
    result = ops.cross_entropy(as_global(flow, logits), as_global(flow, labels))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_softmax_over_parts_of_a_vocabulary(flow, parts, scale):
    """The formula of a tensor group, with all its parts on one rank; logits up to several hundred."""
    from pipeloom.plugins.executors.oneflow.vocabulary import WordRanks, parallel_log_sum

    place = flow.placement("cpu", [[0]])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((5, 8)) * scale, rng.standard_normal((12, 8)), rng.standard_normal(12)]
    tensors = [
        flow.from_numpy(array.astype(np.float32))
        .to_global(placement=place, sbp=[flow.sbp.broadcast] * 2)
        .requires_grad_(True)
        for array in arrays
    ]
    weights = rng.standard_normal(5)

    result = parallel_log_sum(*tensors, WordRanks.of_tensor_group(place, parts))
    x, w, b = (array.astype(np.float32).astype(np.float64) for array in arrays)
    logits = x @ w.T + b
    most = logits.max(-1, keepdims=True)
    expected = (most + np.log(np.exp(logits - most).sum(-1, keepdims=True)))[:, 0]
    np.testing.assert_allclose(result.numpy(), expected, rtol=2e-6)
    result.backward(
        flow.from_numpy(weights.astype(np.float32)).to_global(placement=place, sbp=[flow.sbp.broadcast] * 2)
    )
    dense = np.exp(logits - expected[:, None]) * weights[:, None]
    for tensor, gradient in zip(tensors, (dense @ w, dense.T @ x, dense.sum(0))):
        np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_largest_of_parts_of_a_vocabulary_is_the_first_of_equal_ones(flow, ops, parts):
    from pipeloom.plugins.executors.oneflow.vocabulary import WordRanks, parallel_argmax

    rng = np.random.default_rng(0)
    x, weight = rng.integers(-2, 3, (64, 3)), rng.integers(-1, 2, (12, 3))  # small whole numbers: many equal logits
    bias = np.where(np.arange(12) < 11, 0.0, -1e9)  # the last row fills the vocabulary up
    logits = x @ weight.T + bias
    assert ((logits == logits.max(1, keepdims=True)).sum(1) > 1).sum() > 10
    arrays = [array.astype(np.float32) for array in (x, weight, bias)]
    place = flow.placement("cpu", [[0]])
    tensors = [flow.from_numpy(array).to_global(placement=place, sbp=[flow.sbp.broadcast] * 2) for array in arrays]
    ranks = WordRanks.of_tensor_group(place, parts)
    np.testing.assert_array_equal(parallel_argmax(*tensors, ranks).numpy(), logits.argmax(1))
    np.testing.assert_array_equal(
        ops.vocabulary_argmax(*(as_global(flow, array) for array in arrays)).numpy(), logits.argmax(1)
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", [(7,), (16, 8), (2, 16, 16)])
def test_dropout_masks_are_those_of_numpy_bit_for_bit(flow, batch, shape):
    from pipeloom.core.contract.dropout_masks import kept_mask, position_table
    from pipeloom.core.data.dropout_seeds import dropout_seeds
    from pipeloom.plugins.executors.oneflow.dropout import Dropout, Places, place_keys

    size, names, places = int(np.prod(shape)), ("layer", "other layer", "layer.2"), Places()
    seeds, ones = dropout_seeds(3, 7, batch), as_global(flow, np.ones((batch, *shape), np.float32))
    dropouts = [Dropout(name, 0.25, places, as_global(flow, position_table(size))) for name in names]
    keys = place_keys(as_global(flow, seeds), as_global(flow, places.table()))
    for name, dropout in zip(names, dropouts):
        dropped = dropout(ones, keys).numpy()
        mask = kept_mask(name, 0.25, seeds, size).reshape(dropped.shape)
        np.testing.assert_array_equal(dropped, np.where(mask, np.float32(1 / 0.75), np.float32(0)))


def regression():
    """One block whose loss is the weighted mean of squared errors; beside it the mean prediction."""

    def build(scope):
        weight, bias = scope.parameter("weight"), scope.parameter("bias")
        work = scope.constant("work", some_work)

        def block(hidden, fields):
            prediction = scope.ops.linear(fields["x"], weight, bias) + scope.ops.matmul(work, work).sum()
            square = ((prediction - fields["y"]) * (prediction - fields["y"]) * fields["weights"]).sum()
            return {"error": square, "mean": (prediction * fields[SAMPLE_WEIGHT]).sum()}

        return block

    parameters = (ParameterSpec("weight", (1, 3), std=1.0), ParameterSpec("bias", (1,), "ones", decay=False))
    block = Block("regression", parameters, Cost(1, 1, 1), ("x", "y", "weights", SAMPLE_WEIGHT), build)
    return ModelSpec("regression", "regression", (block,), {"error": 1.0, "mean": 0.0}, normalize=("weights",))


def train_numpy(data, order, config, schedule, steps):
    """The same in float64: AdamW (Loshchilov & Hutter 2019), LAMB (You et al. 2020) or SGD, decay on the weight alone,
    global clipping.
    """
    from pipeloom.core.checkpoint.initialization import initial_value

    parameters = {spec.name: initial_value(spec, config.seed).astype(np.float64) for spec in regression().parameters}
    first = {name: np.zeros_like(value) for name, value in parameters.items()}
    second = {name: np.zeros_like(value) for name, value in parameters.items()}
    history = []
    for step in range(steps):
        batch = data.read(order.indices(step), ["x", "y", "weights"])
        weights = batch["weights"].astype(np.float64) / batch["weights"].sum()
        prediction = batch["x"] @ parameters["weight"].T + parameters["bias"]
        error = prediction - batch["y"]
        gradients = {"weight": (2 * error * weights).T @ batch["x"], "bias": (2 * error * weights).sum(0)}
        norm = math.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        history.append({"error": (error**2 * weights).sum(), "mean": prediction.mean(), "norm": norm})
        rate = schedule.at(step)
        for name, gradient in gradients.items():
            if config.clip_grad_norm:
                gradient = gradient * min(1.0, config.clip_grad_norm / (norm + 1e-6))
            decay = config.weight_decay if name == "weight" else 0.0
            if config.optimizer == "lamb":
                first[name] = config.adam_beta1 * first[name] + (1 - config.adam_beta1) * gradient
                second[name] = config.adam_beta2 * second[name] + (1 - config.adam_beta2) * gradient**2
                update = (
                    first[name]
                    / (1 - config.adam_beta1 ** (step + 1))
                    / (np.sqrt(second[name] / (1 - config.adam_beta2 ** (step + 1))) + config.adam_eps)
                    + decay * parameters[name]
                )
                of_weight, of_update = np.linalg.norm(parameters[name]), np.linalg.norm(update)
                ratio = of_weight / of_update if of_weight > 0 and of_update > 0 else 1.0
                parameters[name] = parameters[name] - rate * ratio * update
            elif config.optimizer == "sgd":
                first[name] = config.momentum * first[name] + gradient + decay * parameters[name]
                parameters[name] = parameters[name] - rate * first[name]
            else:
                first[name] = config.adam_beta1 * first[name] + (1 - config.adam_beta1) * gradient
                second[name] = config.adam_beta2 * second[name] + (1 - config.adam_beta2) * gradient**2
                update = (
                    first[name]
                    / (1 - config.adam_beta1 ** (step + 1))
                    / (np.sqrt(second[name] / (1 - config.adam_beta2 ** (step + 1))) + config.adam_eps)
                )
                parameters[name] = parameters[name] - rate * (update + decay * parameters[name])
    return parameters, history


@pytest.mark.parametrize(
    "changes",
    [
        {
            "optimizer": "adamw",
            "weight_decay": 0.3,
            "clip_grad_norm": 0.5,
            "micro_batches": 4,
            "kind": "linear",
            "warmup": 3,
        },
        {
            "optimizer": "adamw",
            "weight_decay": 0.3,
            "clip_grad_norm": 0.0,
            "micro_batches": 1,
            "kind": "constant",
            "warmup": 0,
        },
        {
            "optimizer": "sgd",
            "weight_decay": 0.2,
            "clip_grad_norm": 0.0,
            "micro_batches": 2,
            "kind": "linear",
            "warmup": 0,
            "momentum": 0.9,
        },
        {
            "optimizer": "sgd",
            "weight_decay": 0.0,
            "clip_grad_norm": 2.0,
            "micro_batches": 4,
            "kind": "constant",
            "warmup": 4,
        },
        {
            "optimizer": "sgd",
            "weight_decay": 0.1,
            "clip_grad_norm": 0.0,
            "micro_batches": 1,
            "kind": "polynomial",
            "warmup": 3,
        },
        {
            "optimizer": "sgd",
            "weight_decay": 0.0,
            "clip_grad_norm": 0.0,
            "micro_batches": 2,
            "kind": "cosine",
            "warmup": 2,
            "momentum": 0.5,
        },
        {
            "optimizer": "adamw",
            "weight_decay": 0.0,
            "clip_grad_norm": 1.0,
            "micro_batches": 1,
            "kind": "constant",
            "warmup": 0,
            "adam_beta1": 0.5,
            "adam_beta2": 0.9,
            "adam_eps": 0.1,
        },
        {
            "optimizer": "lamb",
            "weight_decay": 0.3,
            "clip_grad_norm": 0.5,
            "micro_batches": 4,
            "kind": "linear",
            "warmup": 3,
        },
        {
            "optimizer": "lamb",
            "weight_decay": 0.1,
            "clip_grad_norm": 0.0,
            "micro_batches": 2,
            "kind": "cosine",
            "warmup": 0,
            "shard": "optimizer",
        },
        {
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "clip_grad_norm": 1.0,
            "micro_batches": 2,
            "kind": "linear",
            "warmup": 0,
            "shard": "optimizer",
        },
        {
            "optimizer": "sgd",
            "weight_decay": 0.1,
            "clip_grad_norm": 0.5,
            "micro_batches": 2,
            "kind": "linear",
            "warmup": 0,
            "loss_scale": 512.0,
        },
        {
            "optimizer": "sgd",
            "weight_decay": 0.0,
            "clip_grad_norm": 0.0,
            "micro_batches": 1,
            "kind": "linear",
            "warmup": 0,
            "loss_scale": 1000.0,
        },
        {
            "optimizer": "lamb",
            "weight_decay": 0.0,
            "clip_grad_norm": 0.0,
            "micro_batches": 1,
            "kind": "constant",
            "warmup": 0,
            "adam_beta1": 0.5,
        },
    ],
)
def test_steps_of_training_equal_numpy(flow, changes):
    """Twelve steps: weights, losses, metrics and gradient norms, tolerance 2e-5 (float32 against float64)."""
    from pipeloom.core.checkpoint.initialization import initial_value
    from pipeloom.plugins.executors.oneflow import OneFlow
    from pipeloom.plugins.optimizers.defaults import pipeloom_build_optimizer

    config = SimpleNamespace(
        **{
            "seed": 11,
            "learning_rate": 0.05,
            "momentum": 0.0,
            "adam_beta1": 0.9,
            "adam_beta2": 0.999,
            "adam_eps": 1e-6,
            "shard": "none",
            "loss_scale": 1.0,
            **changes,
        }
    )
    steps, model, data = 12, regression(), Points(50)
    placement = Placement.of(Cluster(1, 1), [[0]])
    value_of = lambda spec: initial_value(spec, config.seed)
    program = OneFlow().build(ProgramSpec(model, (1,), placement, Mesh(1, 1), data.fields, 0, value_of, config.shard))
    schedule = LRSchedule(config.learning_rate, config.kind, config.warmup, steps, power=2.0, final_rate=0.01)
    order = SampleOrder(len(data), 8, seed=2, shuffle=True)
    training = program.train(
        StepSettings(config.micro_batches, (), config.clip_grad_norm, config.loss_scale),
        pipeloom_build_optimizer(config, list(model.parameters)),
        schedule,
        TrainingBatches(data, order, model.normalize, config.seed),
    )
    expected, history = train_numpy(data, order, config, schedule, steps)
    norms = 0.0
    for step in range(steps):
        sums, total = training.read(training.step(step))
        training.finish_step(step + 1)
        np.testing.assert_allclose(sums, [history[step]["error"], history[step]["mean"]], rtol=2e-5, atol=2e-5)
        assert total - norms == pytest.approx(history[step]["norm"], rel=2e-5, abs=2e-4)
        norms = total
    for spec, value in zip(program.parameters, program.weights()):
        np.testing.assert_allclose(value, expected[spec.name], rtol=2e-5, atol=2e-5)
