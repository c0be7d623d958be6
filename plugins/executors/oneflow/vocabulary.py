"""The normalizer of a softmax, and the arg max, over a vocabulary whose rows are spread over a tensor group.

As in Megatron-LM (Shoeybi et al. 2019, section 3): each rank has the logits of its own rows, and of each
prediction only a log-sum and the gradient of the input are put together. Written out because the engine's own
(``sparse_softmax_cross_entropy_ms``) is made of broadcasts of ``(N, 1)``, slow on a CPU: a step of a small BERT
took seven times as long.

Shapes: N = predictions, H = width, V = vocabulary, T = ranks of a tensor group, W = V / T.
"""

from __future__ import annotations

import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import over_data
from pipeloom.plugins.executors.oneflow.constants import constant_like

_B, _S = flow.sbp.broadcast, flow.sbp.split


def whole(value):
    """Return ``value`` on every rank of a tensor group, split by samples."""
    return value.to_global(placement=value.placement, sbp=[over_data(value.placement), _B])


def split(value):
    """Return ``value`` split by samples and, along dim 1, over a tensor group."""
    return value.to_global(placement=value.placement, sbp=[over_data(value.placement), _S(1)])


def group_log_sum(x_NH, weight_VH, bias_V, tensor: int):
    """Compute ``log sum exp(x weight^T + bias)`` over the vocabulary: ``(N,)``, on every rank of the group.

    Returned with it: the softmax of each rank over its own rows, ``(N, T, W)``, and the share of each rank in the
    whole, ``(N, T)``. ``x`` is whole in the group, ``weight`` and ``bias``, which may be ``None``, split on dim 0.
    """
    N, V = x_NH.shape[0], weight_VH.shape[0]
    logits_NV = flow.matmul(x_NH, weight_VH, transpose_b=True)
    logits_NTW = split(logits_NV if bias_V is None else logits_NV + bias_V).reshape(N, tensor, V // tensor)
    log_NTW = flow.log_softmax(logits_NTW, dim=-1)  # each rank over its own rows
    sums_NT = whole((flow.narrow(logits_NTW, 2, 0, 1) - flow.narrow(log_NTW, 2, 0, 1)).reshape(N, tensor))
    most_N1 = sums_NT.amax(dim=1, keepdim=True)
    sum_N1 = most_N1 + flow.log(flow.exp(sums_NT - most_N1).sum(dim=1, keepdim=True))
    return sum_N1.reshape(N), flow.exp(log_NTW), flow.exp(sums_NT - sum_N1)


def scaled_softmax(own_NTW, factor_NT):
    """Return the softmax of each rank over its own rows times a factor of that rank, ``(N, V)`` split on dim 1."""
    N, T, W = own_NTW.shape
    ones_1W = constant_like((1, W), 1.0, own_NTW)
    return split((own_NTW * flow.matmul(split(factor_NT).reshape(N, T, 1), ones_1W)).reshape(N, T * W))


def parallel_log_sum(x_NH, weight_VH, bias_V, tensor: int, sum_rows):
    """Compute ``group_log_sum`` with its gradients; ``sum_rows`` adds up the rows of ``(N, V)``."""
    N = x_NH.shape[0]

    class LogSum(flow.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, *bias):
            sum_N, own_NTW, share_NT = group_log_sum(x, weight, bias[0] if bias else None, tensor)
            ctx.save_for_backward(x, weight, own_NTW, share_NT)
            return sum_N

        @staticmethod
        def backward(ctx, gradient_N):
            x, weight, own_NTW, share_NT = ctx.saved_tensors
            dense_NV = scaled_softmax(own_NTW, share_NT * whole(gradient_N).reshape(N, 1))
            gradients = whole(flow.matmul(dense_NV, weight)), flow.matmul(dense_NV, x, transpose_a=True)
            return gradients if bias_V is None else (*gradients, sum_rows(dense_NV))

    return LogSum.apply(x_NH, weight_VH, *(() if bias_V is None else (bias_V,)))


def parallel_argmax(x_NH, weight_VH, bias_V, tensor: int):
    """Return the first word with the largest logit, int32 ``(N,)``, on every rank of the group; shapes as above.

    Each rank finds the largest of its own rows; of each prediction only that and its place are put together.
    """
    N, V = x_NH.shape[0], weight_VH.shape[0]
    logits_NV = flow.matmul(x_NH, weight_VH, transpose_b=True)
    logits_NTW = split(logits_NV if bias_V is None else logits_NV + bias_V).reshape(N, tensor, V // tensor)
    most_NT = whole(split(logits_NTW.amax(dim=2)))
    row_NT = whole(split(flow.argmax(logits_NTW, dim=2).to(flow.float32)))  # exact: below 2**24
    rank_N = flow.argmax(most_NT, dim=1)
    row_N = (flow._C.one_hot(rank_N, tensor, 1, 0).to(flow.float32) * row_NT).sum(dim=1)
    return rank_N.to(flow.int32) * (V // tensor) + row_N.to(flow.int32)
