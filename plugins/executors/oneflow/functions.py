"""Functions with a gradient of their own, for devices on which the engine's are slow, and products with ones.

On a CPU, OneFlow 0.9.0 sends every broadcast of a ``(.., 1)`` shape through oneDNN's reference kernel (25 to 50 times
slower than a product with a row of ones) and sums bias gradients slowly, so LayerNorm and bias are written as products;
GELU has its own backward. Shapes: N = rows (batch x sequence), H = width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import over_data, split_dim
from pipeloom.plugins.executors.oneflow.constants import constant_like
from pipeloom.plugins.executors.oneflow.handle import tensor_of

_B = flow.sbp.broadcast


def gathered(parameter):
    """Return a parameter on all data-parallel ranks, where it is spread over them; its gradient is spread again.

    The product by 1 stands between the variable and the network: the engine dies of a register that is both.
    """
    parameter = tensor_of(parameter)
    over_data, *over_tensor = parameter.sbp
    if split_dim(over_data) is None:
        return parameter
    return (parameter * 1.0).to_global(placement=parameter.placement, sbp=[_B, *over_tensor])


class LinearFunction(flow.autograd.Function):
    """Compute ``y_NO = x_NI w_OI^T + b_O`` with the bias gradient as a product with ones.

    A weight that is spread is gathered twice, so that it need not be kept until the backward pass.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return flow.matmul(x, gathered(weight), transpose_b=True) + bias

    @staticmethod
    def backward(ctx, grad):
        return (*_product_gradients(ctx, grad), sum_rows(grad))


class ProductFunction(flow.autograd.Function):
    """Compute ``y_NO = x_NI w_OI^T``, as ``LinearFunction`` does."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return flow.matmul(x, gathered(weight), transpose_b=True)

    @staticmethod
    def backward(ctx, grad):
        return _product_gradients(ctx, grad)


def _product_gradients(ctx, grad):
    x, weight = ctx.saved_tensors
    return flow.matmul(grad, gathered(weight)), as_spread(flow.matmul(grad, x, transpose_a=True), weight)


def as_spread(gradient, weight):
    """Return the gradient of a weight that is spread as spread too.

    Else it stays a partial sum, to be added up over the ranks once a step, when the micro-batches are.
    """
    if split_dim(weight.sbp[0]) is None:
        return gradient
    return gradient.to_global(placement=weight.placement, sbp=weight.sbp)


class GradientWhere(flow.autograd.Function):
    """Return ``x_BLH`` itself, whose gradient is cut off where ``kept_BL`` is 0."""

    @staticmethod
    def forward(ctx, x_BLH, kept_BL):
        ctx.save_for_backward(kept_BL)
        return x_BLH * 1.0

    @staticmethod
    def backward(ctx, grad_BLH):
        (kept_BL,) = ctx.saved_tensors
        B, L, H = grad_BLH.shape
        rows = grad_BLH.reshape(B * L, H)
        # A row of ones of its own: what shares it would wait for this gradient, which may be the last of a micro-batch.
        ones_1H = flow._C.global_constant(
            (1, H), 1.0, dtype=rows.dtype, placement=rows.placement, sbp=[_B] * rows.placement.ranks.ndim
        )
        return (rows * flow.matmul(kept_BL.reshape(B * L, 1), ones_1H)).reshape(B, L, H), None


class AddRowFunction(flow.autograd.Function):
    """Compute ``x_NH + row_H``."""

    @staticmethod
    def forward(ctx, x, row):
        return x + row

    @staticmethod
    def backward(ctx, grad):
        return grad, sum_rows(grad)


@lru_cache(maxsize=None)
def layer_norm_function(eps: float):
    """Return LayerNorm over the last dimension (Ba et al. 2016), biased variance, in products with ones.

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
            return grad_x, sum_rows(grad * normal), sum_rows(grad)

    return _LayerNorm


class GeluFunction(flow.autograd.Function):
    """Compute ``x Phi(x)`` and its derivative ``Phi(x) + x phi(x)``, with Phi and phi of the standard normal.

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


class GeluTanhFunction(flow.autograd.Function):
    """Compute ``x P(x)`` with ``P(x) = (1 + tanh(c x (1 + 0.044715 x^2))) / 2``, ``c = sqrt(2 / pi)``, and its
    derivative ``P(x) + x P'(x)``, which is kept, so that nothing else need be."""

    @staticmethod
    def forward(ctx, x):
        square, c = x * x, math.sqrt(2.0 / math.pi)
        bent = flow.tanh((square * 0.044715 + 1.0) * x * c)
        below = bent * 0.5 + 0.5
        slope = (bent * bent * -0.5 + 0.5) * (square * (3 * 0.044715 * c) + c)
        ctx.save_for_backward(below + x * slope)
        return x * below

    @staticmethod
    def backward(ctx, grad):
        (derivative,) = ctx.saved_tensors
        return grad * derivative


def _column(x):
    return constant_like((x.shape[1], 1), 1.0 / x.shape[1], x)


def _spread(column, x):
    """Repeat a column: ``(N, 1) -> (N, H)``."""
    return flow.matmul(column, constant_like((1, x.shape[1]), 1.0, x))


def _row_mean(x):
    return _spread(flow.matmul(x, _column(x)), x)


def sum_rows(x):
    """Add up rows, ``(N, H) -> (H,)``; over data-parallel ranks a partial sum."""
    return flow.matmul(constant_like((1, x.shape[0]), 1.0, x, over_data(x.placement, 1)), x).reshape(x.shape[1])
