"""The normalizer of a softmax, and the arg max, over a vocabulary whose rows are split over ranks.

As in Megatron-LM (Shoeybi et al. 2019, section 3): each rank has the logits of its own rows, and of each
prediction only a log-sum and the gradient of the input are put together. The ranks are a tensor group, which has the
same samples anyway, or all data-parallel ranks (``--shard vocabulary``), which show each other theirs first: they are
small where the gradient of the table is large. Written out because the engine's own
(``sparse_softmax_cross_entropy_ms``) is made of broadcasts of ``(N, 1)``, slow on a CPU: a step of a small BERT
took seven times as long.

Shapes: N = predictions, H = width, V = vocabulary, T = ranks that split it, W = V / T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List

import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import over_data
from pipeloom.plugins.executors.oneflow.constants import constant_like

_B, _S = flow.sbp.broadcast, flow.sbp.split


@dataclass(frozen=True)
class WordRanks:
    """Say how the ranks that split a vocabulary hold what is computed with it, all on ``place``.

    ``batch``: as the rest of the model has it. ``same``: what each of them needs whole. ``own``: split along dim 1, the
    words.
    """

    count: int
    place: Any
    batch: List[Any]
    same: List[Any]
    own: List[Any]

    @classmethod
    def of_tensor_group(cls, place, tensor: int) -> WordRanks:
        data = over_data(place)
        return cls(tensor, place, [data, _B], [data, _B], [data, _S(1)])

    @classmethod
    def of_data_ranks(cls, place) -> WordRanks:
        return cls(place.ranks.shape[0], place, [_S(0)], [_B], [_S(1)])

    def whole(self, value):
        """Return ``value`` on each of them."""
        return value.to_global(placement=self.place, sbp=self.same)

    def split(self, value):
        """Return ``value`` split along dim 1."""
        return value.to_global(placement=self.place, sbp=self.own)

    def own_row(self, value_V):
        """Return one number for each word, the same for all samples, split."""
        return value_V.to_global(placement=self.place, sbp=[*[_B] * (len(self.own) - 1), _S(0)])

    def to_batch(self, value):
        """Return ``value``, of which each has all or a part of the sum, as the rest of the model has it."""
        return value.to_global(placement=self.place, sbp=self.batch)


def group_log_sum(x_NH, weight_VH, bias_V, ranks: WordRanks):
    """Compute ``log sum exp(x weight^T + bias)`` over the vocabulary: ``(N,)``, on every rank.

    Returned with it: the softmax of each rank over its own rows, ``(N, T, W)``, and the share of each rank in the
    whole, ``(N, T)``. ``x`` is whole on each rank, ``weight`` and ``bias``, which may be ``None``, split on dim 0.
    """
    N, V, T = x_NH.shape[0], weight_VH.shape[0], ranks.count
    logits_NV = _logits(x_NH, weight_VH, bias_V, ranks)
    logits_NTW = logits_NV.reshape(N, T, V // T)
    log_NTW = flow.log_softmax(logits_NTW, dim=-1)  # each rank over its own rows
    sums_NT = ranks.whole((flow.narrow(logits_NTW, 2, 0, 1) - flow.narrow(log_NTW, 2, 0, 1)).reshape(N, T))
    most_N1 = sums_NT.amax(dim=1, keepdim=True)
    sum_N1 = most_N1 + flow.log(flow.exp(sums_NT - most_N1).sum(dim=1, keepdim=True))
    # The softmax by itself: the engine's exp is a slow loop on a CPU, its softmax is not.
    return sum_N1.reshape(N), flow.softmax(logits_NTW, dim=-1), flow.exp(sums_NT - sum_N1)


def _logits(x_NH, weight_VH, bias_V, ranks: WordRanks):
    """Return ``x weight^T + bias``, ``(N, V)``, of each rank for its own rows."""
    logits_NV = ranks.split(flow.matmul(x_NH, weight_VH, transpose_b=True))
    return logits_NV if bias_V is None else ranks.split(logits_NV + ranks.own_row(bias_V))


def scaled_softmax(own_NTW, factor_NT, ranks: WordRanks):
    """Return the softmax of each rank over its own rows times a factor of that rank, ``(N, V)`` split on dim 1."""
    N, T, W = own_NTW.shape
    ones_1W = constant_like((1, W), 1.0, own_NTW)
    return ranks.split((own_NTW * flow.matmul(ranks.split(factor_NT).reshape(N, T, 1), ones_1W)).reshape(N, T * W))


def sum_words(dense_NV):
    """Add up rows, ``(N, V) -> (V,)``, of what is split along the words."""
    sbp = over_data(dense_NV.placement, 1) if dense_NV.placement.ranks.ndim > 1 else _B
    return flow.matmul(constant_like((1, dense_NV.shape[0]), 1.0, dense_NV, sbp), dense_NV).reshape(dense_NV.shape[1])


def parallel_log_sum(x_NH, weight_VH, bias_V, ranks: WordRanks):
    """Compute ``group_log_sum`` with its gradients, as the rest of the model has its samples."""
    N = x_NH.shape[0]

    class LogSum(flow.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, *bias):
            x = x if ranks.batch == ranks.same else ranks.whole(x)
            sum_N, own_NTW, share_NT = group_log_sum(x, weight, bias[0] if bias else None, ranks)
            ctx.save_for_backward(x, weight, own_NTW, share_NT)
            return ranks.to_batch(sum_N)

        @staticmethod
        def backward(ctx, gradient_N):
            x, weight, own_NTW, share_NT = ctx.saved_tensors
            dense_NV = scaled_softmax(own_NTW, share_NT * ranks.whole(gradient_N).reshape(N, 1), ranks)
            gradients = ranks.to_batch(flow.matmul(dense_NV, weight)), flow.matmul(dense_NV, x, transpose_a=True)
            return gradients if bias_V is None else (*gradients, sum_words(dense_NV))

    return LogSum.apply(x_NH, weight_VH, *(() if bias_V is None else (bias_V,)))


def parallel_argmax(x_NH, weight_VH, bias_V, ranks: WordRanks):
    """Return the first word with the largest logit, int32 ``(N,)``; shapes as above.

    Each rank finds the largest of its own rows; of each prediction only that and its place are put together.
    """
    N, V, T = x_NH.shape[0], weight_VH.shape[0], ranks.count
    x_NH = x_NH if ranks.batch == ranks.same else ranks.whole(x_NH)
    logits_NV = _logits(x_NH, weight_VH, bias_V, ranks)
    logits_NTW = logits_NV.reshape(N, T, V // T)
    most_NT = ranks.whole(ranks.split(logits_NTW.amax(dim=2)))
    row_NT = ranks.whole(ranks.split(flow.argmax(logits_NTW, dim=2).to(flow.float32)))  # exact: below 2**24
    rank_N = flow.argmax(most_NT, dim=1)
    row_N = (flow._C.one_hot(rank_N, T, 1, 0).to(flow.float32) * row_NT).sum(dim=1)
    return ranks.to_batch(rank_N.to(flow.int32) * (V // T) + row_N.to(flow.int32))
