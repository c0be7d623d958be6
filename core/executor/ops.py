"""Operations whose fast formulation depends on the device. Models take them from ``scope.ops``.

On a CPU, OneFlow 0.9.0 sends every broadcast of a ``(.., 1)`` shape through oneDNN's reference kernel
(25 to 50 times slower than a product with a row of ones) and sums bias gradients slowly, so LayerNorm
and bias are written as products there. On CUDA the fused kernels serve. Both compute the same formulas.

All tensors are global; activations are split on dim 0 over the data-parallel ranks, parameters broadcast.
Shapes: N = rows (batch x sequence), H = width.
"""
from __future__ import annotations

import math
from functools import lru_cache

import oneflow as flow

_B = flow.sbp.broadcast


class _Linear(flow.autograd.Function):
    """``y_NO = x_NI w_OI^T + b_O`` with the bias gradient as a product with ones."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return flow.matmul(x, weight, transpose_b=True) + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return flow.matmul(grad, weight), flow.matmul(grad, x, transpose_a=True), _sum_rows(grad)


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
            variance = flow.matmul(center * center, _column(x))      # (N, 1)
            scale = _spread(flow.rsqrt(variance + eps), x)            # (N, H)
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


def _constant(shape, value, x, sbp=_B):
    return flow._C.global_constant(shape, value, dtype=x.dtype, placement=x.placement, sbp=[sbp])


def _column(x):
    return _constant((x.shape[1], 1), 1.0 / x.shape[1], x)


def _spread(column, x):
    """``(N, 1) -> (N, H)``."""
    return flow.matmul(column, _constant((1, x.shape[1]), 1.0, x))


def _row_mean(x):
    return _spread(flow.matmul(x, _column(x)), x)


def _sum_rows(x):
    """``(N, H) -> (H,)``; over data-parallel ranks a partial sum."""
    return flow.matmul(_constant((1, x.shape[0]), 1.0, x, flow.sbp.split(1)), x).reshape(x.shape[1])


class Ops:
    """The operations, in the formulation for a device type; see ``ops_for``."""

    #: Largest magnitude of an additive attention mask: exp(-10000) is 0 in float32.
    MASKED = -10000.0

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


class CpuOps(Ops):
    def linear(self, x, weight, bias):
        return _Linear.apply(x, weight, bias)

    def add_row(self, x, row):
        return _AddRow.apply(x, row)

    def layer_norm(self, x, weight, bias, eps):
        return _layer_norm_function(eps).apply(x, weight, bias)


class CudaOps(Ops):
    """The engine's fused kernels. Written with care, not run here: see the README on GPUs."""

    def linear(self, x, weight, bias):
        return flow._C.fused_matmul_bias(x, weight, bias) if hasattr(flow._C, "fused_matmul_bias") else \
            flow._C.bias_add(flow.matmul(x, weight, transpose_b=True), bias, axis=1)

    def add_row(self, x, row):
        return flow._C.bias_add(x, row, axis=1)

    def layer_norm(self, x, weight, bias, eps):
        return flow._C.layer_norm_affine(x, weight, bias, begin_norm_axis=1, begin_params_axis=1, epsilon=eps)


def ops_for(device_type: str) -> Ops:
    """The formulation for ``"cpu"`` or ``"cuda"``."""
    return {"cpu": CpuOps, "cuda": CudaOps}[device_type]()
