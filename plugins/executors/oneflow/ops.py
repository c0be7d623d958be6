"""The operations that blocks take from ``scope.ops``; ``core/contract/scope.py`` says what each computes.

All tensors are global; activations are split on dim 0 over the data-parallel ranks, parameters broadcast. With tensor
parallelism a second part of each sbp says the same of the tensor group. On a CPU some are written by hand
(``functions.py``); on CUDA fused kernels may serve (``cuda.py``). Shapes: N = rows (batch x sequence), H = width.
"""

from __future__ import annotations

import math
from typing import Optional

import oneflow as flow

from pipeloom.core.contract.layers import ACTIVATIONS
from pipeloom.plugins.executors.oneflow.axes import StageAxes, over_data, split_dim
from pipeloom.plugins.executors.oneflow.chunked_loss import weighted_log_sum
from pipeloom.plugins.executors.oneflow.constants import constant_like
from pipeloom.plugins.executors.oneflow.cross_entropy import LinearCrossEntropy
from pipeloom.plugins.executors.oneflow.functions import (
    AddRowFunction,
    GeluFunction,
    GeluTanhFunction,
    GradientWhere,
    LinearFunction,
    ProductFunction,
    gathered,
    layer_norm_function,
)
from pipeloom.plugins.executors.oneflow.handle import tensor_of
from pipeloom.plugins.executors.oneflow.vocabulary import WordRanks, parallel_argmax, parallel_log_sum

_B, _S = flow.sbp.broadcast, flow.sbp.split


class StageOps:
    """Compute on the ranks of a stage; what depends on the device is in the subclasses."""

    #: Largest magnitude of an additive attention mask: exp(-10000) is 0 in float32.
    MASKED = -10000.0

    def __init__(self, axes: Optional[StageAxes] = None) -> None:
        self._axes = axes if axes is not None and axes.tensor > 1 else None
        self._splits_words = axes is not None and axes.shard == "vocabulary" and self._axes is None

    def _pin(self, x, over_tensor):
        """Fix the sbp of ``x`` over the tensor group, and its gradient's: left to itself the engine moves weights."""
        sbp = [over_data(x.placement), over_tensor]
        return x.to_global(placement=x.placement, sbp=sbp, grad_sbp=sbp)

    def use(self, parameter):
        """Return a parameter on every rank, but for its tensor dimension and for words that ranks split."""
        return self._own_words(parameter)

    def into_group(self, x):
        """Return ``x`` whole in the group; its gradient is summed over the group once, here."""
        return x if self._axes is None else self._pin(x, _B)

    def column_linear(self, x, weight, bias):
        """Compute ``linear``; over a group the result is split on its last dimension."""
        if self._axes is None:
            return self.linear(x, weight, bias)
        return self._pin(self.linear(x, weight, bias), _S(1))

    def row_linear(self, x, weight, bias):
        """Compute ``linear``; over a group the input is split on its last dimension, the result summed and whole."""
        if self._axes is None:
            return self.linear(x, weight, bias)
        return self.add_row(self._pin(flow.matmul(self._pin(x, _S(1)), gathered(weight), transpose_b=True), _B), bias)

    def lookup(self, table, ids, untrained=None):
        """Return rows of a table; each rank of a tensor group has some of them, or each data-parallel rank."""
        if self._words_are_split(table):
            ranks = WordRanks.of_data_ranks(ids.placement)
            found = flow._C.gather(tensor_of(table), ranks.whole(ids), axis=0)  # of each rank those that it has
            found = found.to_global(placement=ranks.place, sbp=ranks.batch, grad_sbp=ranks.same)
        else:
            found = flow._C.gather(gathered(table), ids, axis=0)
            found = found if self._axes is None else self._pin(found, _B)
        return self._trained_but(found, ids, untrained)

    def _words_are_split(self, weight) -> bool:
        """Return whether each data-parallel rank has some of the words of a weight."""
        return self._splits_words and split_dim(tensor_of(weight).sbp[0]) == 0

    def _word_ranks(self, x, weight) -> Optional[WordRanks]:
        """Return the ranks that split the words of a weight which ``x`` is multiplied with, ``None`` for one rank."""
        if self._axes is not None:
            return WordRanks.of_tensor_group(x.placement, self._axes.tensor)
        return WordRanks.of_data_ranks(x.placement) if self._words_are_split(weight) else None

    def _own_words(self, weight):
        """Return the part of a weight that ``_word_ranks`` compute with."""
        return tensor_of(weight) if self._words_are_split(weight) else gathered(weight)

    def gather(self, table, ids, untrained=None):
        """Return rows of a table that is whole."""
        return self._trained_but(flow._C.gather(gathered(table), ids, axis=0), ids, untrained)

    def _trained_but(self, found, ids, untrained):
        """Return the rows ``found``, of which that of the id ``untrained`` gets no gradient."""
        if untrained is None:
            return found
        return GradientWhere.apply(found, self.to_float(ids != untrained))

    def matmul(self, a, b):
        """Multiply matrices."""
        return flow.matmul(a, b)

    def tanh(self, x):
        """Return the hyperbolic tangent."""
        return flow.tanh(x)

    def narrow(self, x, dim, start, length):
        """Return a range of entries along a dimension."""
        return flow.narrow(x, dim, start, length)

    def concat(self, parts, dim):
        """Put tensors in a row along a dimension."""
        return flow.cat(list(parts), dim=dim)

    def one_hot(self, ids, size):
        """Return float32 with 1 at each id."""
        return flow._C.one_hot(ids, size, 1, 0).to(flow.float32)

    def clamp(self, ids, low, high):
        """Bound ids."""
        return flow.clamp(ids, low, high)

    def cumsum(self, x, dim):
        """Return the running sum along a dimension."""
        return flow.cumsum(x, dim)

    def to_ids(self, x):
        """Return int32."""
        return x.to(flow.int32)

    def to_float(self, x):
        """Return float32."""
        return x.to(flow.float32)

    def vocabulary_cross_entropy(self, x, weight, bias, labels):
        """Compute the cross entropy of ``linear`` with its classes split over ranks."""
        ranks = self._word_ranks(x, weight)
        if ranks is None:
            return self.linear_cross_entropy(x, weight, bias, labels)
        picked = self._logits_of(labels, x, weight)
        bias = None if bias is None else self._own_words(bias)
        losses = parallel_log_sum(x, self._own_words(weight), bias, ranks) - picked
        return losses if bias is None else losses - self.lookup(bias, labels)

    def _logits_of(self, labels, x, weight):
        """Return the logit of each label by its row of the weight, without a bias: no rank has all logits."""
        column = constant_like((x.shape[1], 1), 1.0, x)
        return flow.matmul(x * self.lookup(weight, labels), column).reshape(x.shape[0])

    def vocabulary_loss(self, x, weight, bias, labels, weights, chunks):
        """Compute the weighted sum of ``vocabulary_cross_entropy``, some positions at a time."""
        B, L, H = x.shape
        x, labels = self.into_group(x), labels.reshape(B * L)
        picked = self._logits_of(labels, x.reshape(B * L, H), weight)
        biases = [] if bias is None else [self._own_words(bias)]
        picked = picked + self.lookup(biases[0], labels) if biases else picked
        sums = weighted_log_sum(x, weights, tensor_of(weight), biases, self._word_ranks(x, weight), chunks)
        return sums - (picked * weights.reshape(B * L)).sum()

    def vocabulary_argmax(self, x, weight, bias):
        """Return the argmax of ``linear`` with its classes split over ranks; for evaluation."""
        ranks = self._word_ranks(x, weight)
        if ranks is None:
            return self.argmax(self.linear(x, weight, bias))
        return parallel_argmax(x, self._own_words(weight), None if bias is None else self._own_words(bias), ranks)

    def argmax(self, logits):
        """Return the first class with the largest logit, int32."""
        return flow.argmax(logits, dim=1).to(flow.int32)

    def linear_cross_entropy(self, x, weight, bias, labels):
        """Compute the cross entropy of ``linear``."""
        return self.cross_entropy(self.linear(x, weight, bias), labels)

    def linear(self, x, weight, bias):
        """Compute a dense layer."""
        raise NotImplementedError("abstract")

    def add_row(self, x, row):
        """Add a row to each row."""
        raise NotImplementedError("abstract")

    def layer_norm(self, x, weight, bias, eps):
        """Normalise each row."""
        raise NotImplementedError("abstract")

    def gelu(self, x):
        """Compute the exact GELU, ``x Phi(x)`` (Hendrycks & Gimpel 2016)."""
        return flow._C.gelu(x)

    def activation(self, name, x):
        """Apply an activation by its name."""
        return getattr(self, ACTIVATIONS[name])(x)

    def gelu_tanh(self, x):
        """Compute GELU with Phi by a tanh (Hendrycks & Gimpel 2016, section 2), as in Google's BERT."""
        return x * (flow.tanh((x * x * 0.044715 + 1.0) * x * math.sqrt(2.0 / math.pi)) * 0.5 + 0.5)

    def quick_gelu(self, x):
        """Compute ``x sigmoid(1.702 x)`` (the same, their other approximation)."""
        return x * flow.sigmoid(x * 1.702)

    def silu(self, x):
        """Compute ``x sigmoid(x)``."""
        return x * flow.sigmoid(x)

    def relu(self, x):
        """Compute ``max(x, 0)``."""
        return flow.relu(x)

    def attention(self, query, key, value, mask, drop):
        """Compute scaled dot-product attention (Vaswani et al. 2017)."""
        scores = flow.matmul(query * (1.0 / math.sqrt(query.shape[-1])), key, transpose_b=True)
        return flow.matmul(drop(flow.softmax(scores + mask, dim=-1)), value)

    def cross_entropy(self, logits, labels):
        """Compute ``-log softmax(logits)[label]``."""
        return flow._C.sparse_softmax_cross_entropy(logits, labels)


class CpuOps(StageOps):
    def linear(self, x, weight, bias):
        if bias is None:
            return ProductFunction.apply(x, tensor_of(weight))
        return LinearFunction.apply(x, tensor_of(weight), gathered(bias))

    def linear_cross_entropy(self, x, weight, bias, labels):
        biases = [] if bias is None else [gathered(bias)]
        return LinearCrossEntropy.apply(x, labels, tensor_of(weight), *biases)

    def add_row(self, x, row):
        return AddRowFunction.apply(x, gathered(row))

    def layer_norm(self, x, weight, bias, eps):
        return layer_norm_function(eps).apply(x, gathered(weight), gathered(bias))

    def gelu(self, x):
        return GeluFunction.apply(x)

    def gelu_tanh(self, x):
        return GeluTanhFunction.apply(x)
