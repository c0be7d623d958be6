"""The loss of a language model over all positions, whose logits never exist at once.

The gradient of a chunk of positions is made with its value, since it is known then but for a factor that is the same
for all: softmax times weight times what is there (as Liger Kernel does it, Hsu et al. 2024). So neither logits nor
softmax are kept for the backward pass or made twice.

Shapes: B = batch, L = sequence, C = positions of a chunk, N = B x C, H = width, V = vocabulary.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import oneflow as flow

from pipeloom.plugins.executors.oneflow.constants import constant_like
from pipeloom.plugins.executors.oneflow.functions import as_spread, gathered
from pipeloom.plugins.executors.oneflow.vocabulary import WordRanks, group_log_sum, scaled_softmax

_B = flow.sbp.broadcast


def weighted_log_sum(
    x_BLH, weights_BL, weight, biases: Sequence, ranks: Optional[WordRanks], chunks: Sequence[Tuple[int, int]]
):
    """Return the sum of ``log sum exp(x weight^T + bias)`` of all positions, each times its weight.

    ``weights`` get no gradient. ``biases``: one ``(V,)`` or none; ``chunks``: ``(start, positions)`` each; ``ranks``:
    those that split the vocabulary, ``None`` where none do.
    """
    B, _, H = x_BLH.shape
    # They have samples of their own, which each has to see.
    by_data = ranks if ranks is not None and ranks.batch != ranks.same else None

    class WeightedLogSum(flow.autograd.Function):
        @staticmethod
        def forward(ctx, x, weights, weight, *biases):
            table, ones_1H = weight if by_data is not None else gathered(weight), constant_like((1, H), 1.0, x)
            total: List[Any] = []
            of_x: List[Any] = []
            of_table: List[Any] = []
            of_bias: List[Any] = []
            for start, C in chunks:
                x_NH = flow.narrow(x, 1, start, C).reshape(B * C, H)
                weights_N1 = flow.narrow(weights, 1, start, C).reshape(B * C, 1)
                if by_data is not None:
                    x_NH, weights_N1 = by_data.whole(x_NH), by_data.whole(weights_N1)
                sums_N, softmax_NV = _log_sum(x_NH, table, biases, ranks)
                total.append((sums_N * weights_N1.reshape(B * C)).sum())
                scale_NH = flow.matmul(weights_N1, ones_1H)
                back_NH = flow.matmul(softmax_NV, table)
                back_NH = back_NH if ranks is None or by_data is not None else ranks.to_batch(back_NH)
                back_NH = back_NH * scale_NH
                of_x.append((back_NH if by_data is None else by_data.to_batch(back_NH)).reshape(B, C, H))
                of_table.append(flow.matmul(softmax_NV, x_NH * scale_NH, transpose_a=True))
                if biases:
                    of_bias.append(flow.matmul(weights_N1, softmax_NV, transpose_a=True).reshape(-1))
            sums = [_added(parts) for parts in (of_table, of_bias) if parts]
            ctx.save_for_backward(weight, of_x[0] if len(of_x) == 1 else flow.cat(of_x, dim=1), *sums)
            return _added(total)

        @staticmethod
        def backward(ctx, gradient):
            weight, of_x, of_table, *of_bias = ctx.saved_tensors
            # One number, the same on every rank.
            factor = gradient.to_global(placement=of_x.placement, sbp=[_B] * of_x.placement.ranks.ndim).reshape(1)
            return (
                of_x * factor,
                None,
                as_spread(of_table * factor, weight),
                *(part * factor for part in of_bias),
            )

    return WeightedLogSum.apply(x_BLH, weights_BL, weight, *biases)


def _log_sum(x_NH, table_VH, biases: Sequence, ranks: Optional[WordRanks]):
    """Return the logarithm of the sum, ``(N,)``, and the softmax ``(N, V)``, of which each rank has its own rows."""
    if ranks is not None:
        sum_N, own_NTW, share_NT = group_log_sum(x_NH, table_VH, biases[0] if biases else None, ranks)
        return sum_N, scaled_softmax(own_NTW, share_NT, ranks)
    logits_NV = flow.matmul(x_NH, table_VH, transpose_b=True)
    logits_NV = logits_NV + biases[0] if biases else logits_NV
    log_NV = flow.log_softmax(logits_NV, dim=-1)
    sum_N1 = flow.narrow(logits_NV, 1, 0, 1) - flow.narrow(log_NV, 1, 0, 1)
    return sum_N1.reshape(x_NH.shape[0]), flow.softmax(logits_NV, dim=-1)  # exp is a slow loop on a CPU


def _added(parts: Sequence[Any]) -> Any:
    return sum(parts[1:], parts[0])
