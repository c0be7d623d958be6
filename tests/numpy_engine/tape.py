"""Tensors that remember what they were computed from, and the gradients of that (reverse mode)."""

from __future__ import annotations

import numpy as np

#: Computed in double precision, so that it is a reference; what is kept between steps is float32.
REAL = np.float64


class Tensor:
    """An array with its ``inputs``: pairs of a tensor and of what makes its gradient of this one's."""

    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, array, inputs=()):
        self.array, self.grad = array, None
        self.inputs = [(tensor, gradient) for tensor, gradient in inputs if tensor.is_real]

    @property
    def shape(self):
        return self.array.shape

    @property
    def is_real(self):
        return self.array.dtype == REAL

    def reshape(self, *shape):
        return Tensor(self.array.reshape(shape), [(self, lambda grad: grad.reshape(self.shape))])

    def permute(self, *dims):
        return Tensor(self.array.transpose(dims), [(self, lambda grad: grad.transpose(np.argsort(dims)))])

    def sum(self, dim=None):
        def gradient(grad):
            return np.broadcast_to(grad if dim is None else np.expand_dims(grad, dim), self.shape)

        return Tensor(self.array.sum(axis=dim), [(self, gradient)])

    def __add__(self, other):
        other = as_tensor(other, self)
        return Tensor(
            self.array + other.array, [(x, lambda grad, x=x: without_repeats(grad, x.shape)) for x in (self, other)]
        )

    def __sub__(self, other):
        return self + as_tensor(other, self) * -1

    def __mul__(self, other):
        other = as_tensor(other, self)
        return Tensor(
            self.array * other.array,
            [
                (self, lambda grad: without_repeats(grad * other.array, self.shape)),
                (other, lambda grad: without_repeats(grad * self.array, other.shape)),
            ],
        )

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return self * -1 + other

    def __eq__(self, other):
        return Tensor(self.array == as_tensor(other, self).array)

    def backward(self):
        """Set ``grad`` of everything that this scalar was computed from."""
        self.grad = np.ones_like(self.array)
        for tensor in reversed(in_order(self)):
            for source, gradient in tensor.inputs:
                part = gradient(tensor.grad)
                source.grad = part if source.grad is None else source.grad + part


def as_tensor(value, like):
    return value if isinstance(value, Tensor) else Tensor(np.asarray(value, like.array.dtype))


def without_repeats(grad, shape):
    """Sum ``grad`` over the dimensions along which an array of ``shape`` was repeated."""
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    return grad.sum(axis=tuple(dim for dim, size in enumerate(shape) if size == 1), keepdims=True).reshape(shape)


def in_order(last):
    """List what ``last`` was computed from, each after its inputs."""
    order, seen, stack = [], set(), [(last, False)]
    while stack:
        tensor, finished = stack.pop()
        if finished:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((source, False) for source, _ in tensor.inputs)
    return order
