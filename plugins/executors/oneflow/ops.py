"""The operations that blocks take from ``scope.ops`` (``core/contract/scope.py``), as fast as a device allows.

On a CPU, OneFlow 0.9.0 sends every broadcast of a ``(.., 1)`` shape through oneDNN's reference kernel (25 to 50 times
slower than a product with a row of ones) and sums bias gradients slowly, so LayerNorm and bias are written as products
there; GELU has its own backward. On CUDA the fused kernels serve. Both compute the same formulas.

All tensors are global; activations are split on dim 0 over the data-parallel ranks, parameters broadcast.
With tensor parallelism a second part of each sbp says the same of the tensor group; the ``column_``, ``row_`` and
``vocabulary_`` operations split their work over it (Shoeybi et al. 2019) and are the plain ones without it.
Shapes: N = rows (batch x sequence), H = width.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Optional

import oneflow as flow

from pipeloom.core.contract.layers import ACTIVATIONS
from pipeloom.plugins.executors.oneflow.axes import StageAxes, over_data, split_dim
from pipeloom.plugins.executors.oneflow.handle import tensor_of
from pipeloom.plugins.executors.oneflow.vocabulary import parallel_argmax, parallel_log_sum

_B, _S = flow.sbp.broadcast, flow.sbp.split


def gathered(parameter):
    """A parameter on all data-parallel ranks, where ``--shard parameters`` has spread it; its gradient is spread again.

    The product by 1 stands between the variable and the network: the engine dies of a register that is both.
    """
    parameter = tensor_of(parameter)
    over_data, *over_tensor = parameter.sbp
    if split_dim(over_data) is None:
        return parameter
    return (parameter * 1.0).to_global(placement=parameter.placement, sbp=[_B, *over_tensor])


class _Linear(flow.autograd.Function):
    """``y_NO = x_NI w_OI^T + b_O`` with the bias gradient as a product with ones.

    A weight that is spread is gathered twice, so that it need not be kept until the backward pass.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return flow.matmul(x, gathered(weight), transpose_b=True) + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        # Of a weight that is spread, its gradient too. Else it stays a partial sum, to be added up over the ranks
        # once a step, when the micro-batches are.
        of_weight = flow.matmul(grad, x, transpose_a=True)
        if split_dim(weight.sbp[0]) is not None:
            of_weight = of_weight.to_global(placement=weight.placement, sbp=weight.sbp)
        return flow.matmul(grad, gathered(weight)), of_weight, _sum_rows(grad)


class _GradientWhere(flow.autograd.Function):
    """``x_BLH`` itself, whose gradient is cut off where ``kept_BL1`` is 0."""

    @staticmethod
    def forward(ctx, x_BLH, kept_BL1):
        ctx.save_for_backward(kept_BL1)
        return x_BLH * 1.0

    @staticmethod
    def backward(ctx, grad_BLH):
        (kept_BL1,) = ctx.saved_tensors
        return grad_BLH * kept_BL1, None


class _AddRow(flow.autograd.Function):
    """``x_NH + row_H``."""

    @staticmethod
    def forward(ctx, x, row):
        return x + row

    @staticmethod
    def backward(ctx, grad):
        return grad, _sum_rows(grad)


@lru_cache(maxsize=None)
def _layer_norm_function(eps: float):
    """LayerNorm over the last dimension (Ba et al. 2016), biased variance, in products with ones.

    A class for each ``eps``, since the engine passes tensors alone to a Function.
    """

    class _LayerNorm(flow.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias):
            center = x - _row_mean(x)
            variance = flow.matmul(center * center, _column(x))  # (N, 1)
            scale = _spread(flow.rsqrt(variance + eps), x)  # (N, H)
            normal = center * scale
            ctx.save_for_backward(normal, scale, weight)
            return normal * weight + bias

        @staticmethod
        def backward(ctx, grad):
            normal, scale, weight = ctx.saved_tensors
            inner = grad * weight
            grad_x = scale * (inner - _row_mean(inner) - normal * _row_mean(inner * normal))
            return grad_x, _sum_rows(grad * normal), _sum_rows(grad)

    return _LayerNorm


class _Gelu(flow.autograd.Function):
    """``x Phi(x)`` and its derivative ``Phi(x) + x phi(x)``, with Phi and phi of the standard normal distribution.

    ``exp`` and ``erf`` are ten times slower right after a matrix product (docs/oneflow-notes.md), where the engine's
    kernels for GELU and its gradient come; here an elementwise product stands between. The derivative is kept, so that
    x need not be.
    """

    @staticmethod
    def forward(ctx, x):
        below = flow.erf(x * math.sqrt(0.5)) * 0.5 + 0.5
        ctx.save_for_backward(below + x * flow.exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi)))
        return x * below

    @staticmethod
    def backward(ctx, grad):
        (derivative,) = ctx.saved_tensors
        return grad * derivative


def _constant(shape, value, x, sbp=_B):
    """A constant where ``x`` is; ``sbp`` over the data-parallel ranks, whole in a tensor group."""
    over_tensor = [_B] * (x.placement.ranks.ndim - 1)
    return flow._C.global_constant(shape, value, dtype=x.dtype, placement=x.placement, sbp=[sbp, *over_tensor])


def _column(x):
    return _constant((x.shape[1], 1), 1.0 / x.shape[1], x)


def _spread(column, x):
    """``(N, 1) -> (N, H)``."""
    return flow.matmul(column, _constant((1, x.shape[1]), 1.0, x))


def _row_mean(x):
    return _spread(flow.matmul(x, _column(x)), x)


def _sum_rows(x):
    """``(N, H) -> (H,)``; over data-parallel ranks a partial sum."""
    return flow.matmul(_constant((1, x.shape[0]), 1.0, x, over_data(x.placement, 1)), x).reshape(x.shape[1])


class StageOps:
    """The operations, in the formulation for a device type; see ``ops_for``."""

    #: Largest magnitude of an additive attention mask: exp(-10000) is 0 in float32.
    MASKED = -10000.0

    def __init__(self, axes: Optional[StageAxes] = None) -> None:
        self._axes = axes if axes is not None and axes.tensor > 1 else None

    def _pin(self, x, over_tensor):
        """``x`` with this sbp over the tensor group, and its gradient too: left to itself the engine moves weights."""
        sbp = [over_data(x.placement), over_tensor]
        return x.to_global(placement=x.placement, sbp=sbp, grad_sbp=sbp)

    def use(self, parameter):
        """A parameter for any operation that is not one of these: on every rank, but for its tensor dimension."""
        return gathered(parameter)

    def into_group(self, x):
        """``x`` as the whole input of ``column_linear``; its gradient is summed over the tensor group once, here."""
        return x if self._axes is None else self._pin(x, _B)

    def column_linear(self, x, weight, bias):
        """``linear`` with the outputs split over the tensor group: ``x`` from ``into_group``, the result split on its
        last dimension.
        """
        if self._axes is None:
            return self.linear(x, weight, bias)
        return self._pin(self.linear(x, weight, bias), _S(1))

    def row_linear(self, x, weight, bias):
        """``linear`` with the inputs split over the tensor group: the result is summed over it, and whole."""
        if self._axes is None:
            return self.linear(x, weight, bias)
        return self.add_row(self._pin(flow.matmul(self._pin(x, _S(1)), gathered(weight), transpose_b=True), _B), bias)

    def lookup(self, table, ids, untrained=None):
        """Rows of a table: ``(V, H), (B, L) -> (B, L, H)``; each rank of a tensor group has some of the rows."""
        found = flow._C.gather(gathered(table), ids, axis=0)
        found = found if self._axes is None else self._pin(found, _B)
        if untrained is None:
            return found
        return _GradientWhere.apply(found, self.to_float(ids != untrained).unsqueeze(-1))

    def gather(self, table, ids):
        """Rows of a table that every rank has whole: ``(V, H), (N,) -> (N, H)``."""
        return flow._C.gather(gathered(table), ids, axis=0)

    def matmul(self, a, b):
        """The product of the matrices of the last two dimensions."""
        return flow.matmul(a, b)

    def tanh(self, x):
        """The hyperbolic tangent."""
        return flow.tanh(x)

    def narrow(self, x, dim, start, length):
        """``length`` entries from ``start`` along ``dim``."""
        return flow.narrow(x, dim, start, length)

    def one_hot(self, ids, size):
        """float32 ``(..., size)`` with 1 at each id."""
        return flow._C.one_hot(ids, size, 1, 0).to(flow.float32)

    def clamp(self, ids, low, high):
        """Ids within ``low .. high``."""
        return flow.clamp(ids, low, high)

    def to_float(self, x):
        """Ids, or the result of a comparison, as float32."""
        return x.to(flow.float32)

    def vocabulary_cross_entropy(self, x, weight, bias, labels):
        """``cross_entropy(linear(x, weight, bias), labels)``, the classes split over the tensor group: ``(N,)``.

        ``x`` from ``into_group``.
        """
        if self._axes is None:
            return self.cross_entropy(self.linear(x, weight, bias), labels)
        # The logit of each label by its row of the weight: no rank has all logits.
        picked = flow.matmul(x * self.lookup(weight, labels), _constant((x.shape[1], 1), 1.0, x)).reshape(x.shape[0])
        return (
            parallel_log_sum(x, gathered(weight), gathered(bias), self._axes.tensor, _sum_rows)
            - picked
            - self.lookup(bias, labels)
        )

    def vocabulary_argmax(self, x, weight, bias):
        """The class with the largest ``linear(x, weight, bias)``, the first of equal ones: int32 ``(N,)``. For
        evaluation.

        ``x`` from ``into_group``, the classes split over the tensor group.
        """
        if self._axes is None:
            return self.argmax(self.linear(x, weight, bias))
        return parallel_argmax(x, gathered(weight), gathered(bias), self._axes.tensor)

    def argmax(self, logits):
        """The class with the largest of logits ``(N, C)``, the first of equal ones: int32 ``(N,)``."""
        return flow.argmax(logits, dim=1).to(flow.int32)

    def linear(self, x, weight, bias):
        """``(N, I) x (O, I) -> (N, O)``."""
        raise NotImplementedError("abstract")

    def add_row(self, x, row):
        """``(N, H) + (H,)``."""
        raise NotImplementedError("abstract")

    def layer_norm(self, x, weight, bias, eps):
        """``(N, H)``, over H."""
        raise NotImplementedError("abstract")

    def gelu(self, x):
        """Exact GELU, ``x Phi(x)`` (Hendrycks & Gimpel 2016)."""
        return flow._C.gelu(x)

    def activation(self, name, x):
        """What stands between two dense layers, by a name of ``core.contract.layers.ACTIVATIONS``, elementwise."""
        return getattr(self, ACTIVATIONS[name])(x)

    def gelu_tanh(self, x):
        """GELU with Phi by a tanh (Hendrycks & Gimpel 2016, section 2), as in Google's BERT."""
        return x * (flow.tanh((x * x * 0.044715 + 1.0) * x * math.sqrt(2.0 / math.pi)) * 0.5 + 0.5)

    def quick_gelu(self, x):
        """``x sigmoid(1.702 x)`` (the same, their other approximation)."""
        return x * flow.sigmoid(x * 1.702)

    def silu(self, x):
        """``x sigmoid(x)``."""
        return x * flow.sigmoid(x)

    def relu(self, x):
        """``max(x, 0)``."""
        return flow.relu(x)

    def attention(self, query, key, value, mask, drop):
        """Scaled dot-product attention (Vaswani et al. 2017).

        ``query, key, value``: ``(B, heads, L, D)``; ``mask``: additive, broadcastable to
        ``(B, heads, L, L)``; ``drop`` is applied to the probabilities.
        """
        scores = flow.matmul(query * (1.0 / math.sqrt(query.shape[-1])), key, transpose_b=True)
        return flow.matmul(drop(flow.softmax(scores + mask, dim=-1)), value)

    def cross_entropy(self, logits, labels):
        """``-log softmax(logits)[label]``: ``(N, C), (N,) -> (N,)``."""
        return flow._C.sparse_softmax_cross_entropy(logits, labels)


class CpuOps(StageOps):
    def linear(self, x, weight, bias):
        return _Linear.apply(x, tensor_of(weight), gathered(bias))

    def add_row(self, x, row):
        return _AddRow.apply(x, gathered(row))

    def layer_norm(self, x, weight, bias, eps):
        return _layer_norm_function(eps).apply(x, gathered(weight), gathered(bias))

    def gelu(self, x):
        return _Gelu.apply(x)


class CudaOps(StageOps):
    """The engine's fused kernels. Written with care, not run here: see the README on GPUs."""

    def linear(self, x, weight, bias):
        weight, bias = gathered(weight), gathered(bias)
        return (
            flow._C.fused_matmul_bias(x, weight, bias)
            if hasattr(flow._C, "fused_matmul_bias")
            else flow._C.bias_add(flow.matmul(x, weight, transpose_b=True), bias, axis=1)
        )

    def add_row(self, x, row):
        return flow._C.bias_add(x, gathered(row), axis=1)

    def layer_norm(self, x, weight, bias, eps):
        return flow._C.layer_norm_affine(
            x, gathered(weight), gathered(bias), begin_norm_axis=1, begin_params_axis=1, epsilon=eps
        )


def ops_for(device_type: str, axes: Optional[StageAxes] = None) -> StageOps:
    """The formulation for ``"cpu"`` or ``"cuda"``, on the ranks of a stage."""
    return {"cpu": CpuOps, "cuda": CudaOps}[device_type](axes)
