"""The operations of ``core/contract/scope.py`` on the tape."""

from __future__ import annotations

import math

import numpy as np

from numpy_engine.tape import REAL, Tensor, as_tensor
from pipeloom.core.contract.dropout_masks import kept_mask
from pipeloom.core.contract.layers import ACTIVATIONS

erf = np.vectorize(math.erf, otypes=[REAL])


def transposed(array):
    return array.swapaxes(-1, -2)


def log_softmax(array):
    array = array - array.max(axis=-1, keepdims=True)
    return array - np.log(np.exp(array).sum(axis=-1, keepdims=True))


class NumpyOps:
    MASKED = -10000.0

    def use(self, parameter):
        return parameter

    def into_group(self, x):
        return x

    def linear(self, x, weight, bias):
        product = self.matmul(x, weight.permute(1, 0))
        return product if bias is None else product + bias

    column_linear = row_linear = linear

    def add_row(self, x, row):
        return x + row

    def matmul(self, a, b):
        return Tensor(
            a.array @ b.array,
            [(a, lambda grad: grad @ transposed(b.array)), (b, lambda grad: transposed(a.array) @ grad)],
        )

    def layer_norm(self, x, weight, bias, eps):
        center = x.array - x.array.mean(axis=1, keepdims=True)
        scale = 1 / np.sqrt((center**2).mean(axis=1, keepdims=True) + eps)
        normal = center * scale

        def gradient(grad):
            mean = grad.mean(axis=1, keepdims=True)
            return scale * (grad - mean - normal * (grad * normal).mean(axis=1, keepdims=True))

        return Tensor(normal, [(x, gradient)]) * weight + bias

    def lookup(self, table, ids, untrained=None):
        def gradient(grad):
            total = np.zeros_like(table.array)
            np.add.at(total, ids.array, grad)
            if untrained is not None:
                total[untrained] = 0
            return total

        return Tensor(table.array[ids.array], [(table, gradient)])

    gather = lookup

    def cumsum(self, x, dim):
        return Tensor(x.array.cumsum(axis=dim))

    def to_ids(self, x):
        return Tensor(x.array.astype(np.int32))

    def attention(self, query, key, value, mask, drop):
        scores = self.matmul(query * (1 / math.sqrt(query.shape[-1])), key.permute(0, 1, 3, 2)) + mask
        return self.matmul(drop(self.softmax(scores)), value)

    def softmax(self, x):
        shares = np.exp(log_softmax(x.array))
        return Tensor(shares, [(x, lambda grad: shares * (grad - (grad * shares).sum(axis=-1, keepdims=True)))])

    def activation(self, name, x):
        return getattr(self, ACTIVATIONS[name])(x)

    def gelu(self, x):
        below = 0.5 + 0.5 * erf(x.array * math.sqrt(0.5))
        density = np.exp(-0.5 * x.array**2) / math.sqrt(2 * math.pi)
        return Tensor(x.array * below, [(x, lambda grad: grad * (below + x.array * density))])

    def gelu_tanh(self, x):
        return x * (self.tanh((x * x * 0.044715 + 1) * x * math.sqrt(2 / math.pi)) * 0.5 + 0.5)

    def quick_gelu(self, x):
        return x * self.sigmoid(x * 1.702)

    def silu(self, x):
        return x * self.sigmoid(x)

    def relu(self, x):
        return Tensor(np.maximum(x.array, 0), [(x, lambda grad: grad * (x.array > 0))])

    def sigmoid(self, x):
        return self.tanh(x * 0.5) * 0.5 + 0.5

    def tanh(self, x):
        found = np.tanh(x.array)
        return Tensor(found, [(x, lambda grad: grad * (1 - found**2))])

    def narrow(self, x, dim, start, length):
        places = (slice(None),) * dim + (slice(start, start + length),)

        def gradient(grad):
            whole = np.zeros_like(x.array)
            whole[places] = grad
            return whole

        return Tensor(x.array[places], [(x, gradient)])

    def concat(self, parts, dim):
        bounds = np.cumsum([part.shape[dim] for part in parts])

        def gradient(number):
            return lambda grad: np.split(grad, bounds[:-1], axis=dim)[number]

        array = np.concatenate([part.array for part in parts], axis=dim)
        return Tensor(array, [(part, gradient(number)) for number, part in enumerate(parts)])

    def one_hot(self, ids, size):
        return Tensor((ids.array[..., None] == np.arange(size)).astype(REAL))

    def clamp(self, ids, low, high):
        return Tensor(np.clip(ids.array, low, high))

    def to_float(self, x):
        return Tensor(x.array.astype(REAL))

    def cross_entropy(self, logits, labels):
        logs, rows = log_softmax(logits.array), np.arange(len(labels.array))

        def gradient(grad):
            chosen = np.zeros_like(logs)
            chosen[rows, labels.array] = 1
            return grad[:, None] * (np.exp(logs) - chosen)

        return Tensor(-logs[rows, labels.array], [(logits, gradient)])

    def argmax(self, logits):
        return Tensor(logits.array.argmax(axis=1).astype(np.int32))

    def vocabulary_cross_entropy(self, x, weight, bias, labels):
        return self.cross_entropy(self.linear(x, weight, bias), labels)

    def vocabulary_loss(self, x, weight, bias, labels, weights, chunks):
        (B, _, H), total = x.shape, None
        for start, count in chunks:
            rows, words, shares = (self.narrow(one, 1, start, count) for one in (x, labels, weights))
            rows, words = rows.reshape(B * count, H), words.reshape(B * count)
            losses = self.vocabulary_cross_entropy(rows, weight, bias, words) * shares.reshape(B * count)
            total = losses.sum() if total is None else total + losses.sum()
        return total

    def vocabulary_argmax(self, x, weight, bias):
        return self.argmax(self.linear(x, weight, bias))


class NumpyScope:
    """What every block of the one stage gets; ``parameters`` are the tensors of all of them by name."""

    def __init__(self, parameters):
        self.ops, self.training, self.scored, self.decoding = NumpyOps(), True, (), None
        self._parameters = parameters

    def parameter(self, name):
        return self._parameters[name]

    def constant(self, name, make, tensor_dim=None, vocabulary=False):
        array = make()
        return Tensor(array.astype(REAL) if array.dtype.kind == "f" else array)

    def dropout(self, name, p, shape, split=False):
        def drop(x, seeds):
            if p == 0 or seeds is None:
                return x
            kept = kept_mask(name, p, seeds.array, int(np.prod(shape))).reshape(x.shape)
            return x * as_tensor(kept / (1 - p), x)

        return drop
