"""Functions with gradients of their own, in a graph of one rank, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from pipeloom.plugins.executors.oneflow.engine import import_oneflow

N, H, V = 6, 8, 50


@pytest.fixture(scope="module")
def flow():
    return import_oneflow()


def here(flow, array):
    return flow.tensor(array).to_global(placement=flow.placement("cpu", [0]), sbp=flow.sbp.broadcast)


def gradients(flow, function, inputs, factors):
    """What ``sum(function(*inputs) * factors)`` is and its gradients by the inputs of floating point."""
    tensors = [here(flow, array) for array in inputs]
    for tensor in tensors:
        tensor.requires_grad = tensor.dtype == flow.float32
    value = function(*tensors)
    (value * here(flow, factors)).sum().backward()
    return value.detach().to_local().numpy(), [
        tensor.grad.to_local().numpy() for tensor in tensors if tensor.is_leaf and tensor.grad is not None
    ]


@pytest.mark.parametrize("far", [1.0, 400.0], ids=["near", "a loss beyond what a softmax can tell"])
def test_cross_entropy_of_a_dense_layer_is_that_of_float64(flow, far):
    from pipeloom.plugins.executors.oneflow.cross_entropy import LinearCrossEntropy

    random = np.random.default_rng(5)
    x, weight, bias = (random.normal(size=shape).astype(np.float32) for shape in ((N, H), (V, H), (V,)))
    x *= far
    labels = np.array([0, 3, V - 1, 3, 7, 0], np.int32)
    factors = random.uniform(0.1, 1.0, N).astype(np.float32)
    losses, (of_x, of_weight, of_bias) = gradients(
        flow,
        lambda x, weight, bias, labels: LinearCrossEntropy.apply(x, labels, weight, bias),
        [x, weight, bias, labels],
        factors,
    )
    logits = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    logits -= logits.max(axis=1, keepdims=True)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    error = (np.exp(log_softmax) - np.eye(V)[labels]) * factors[:, None]
    assert far == 1.0 or losses.max() > 100
    # float32 keeps 7 digits of a logit; what is far from the largest loses those of the difference.
    np.testing.assert_allclose(losses, -log_softmax[np.arange(N), labels], rtol=3e-6, atol=1e-5)
    for found, expected in ((of_x, error @ weight), (of_weight, error.T @ x), (of_bias, error.sum(axis=0))):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6 * np.abs(expected).max())


def test_a_look_up_gives_no_gradient_to_the_row_that_is_not_trained(flow):
    from pipeloom.plugins.executors.oneflow.ops import CpuOps

    table = np.random.default_rng(6).normal(size=(V, H)).astype(np.float32)
    ids, factors = np.array([[4, 0, 9], [4, 9, 0]], np.int32), np.ones((2, 3, H), np.float32)
    value, (of_table,) = gradients(
        flow, lambda table, ids: CpuOps().lookup(table, ids, untrained=9), [table, ids], factors
    )
    expected = np.zeros((V, H))
    expected[[0, 4]] = 2
    np.testing.assert_array_equal(value, table[ids])
    np.testing.assert_array_equal(of_table, expected)
