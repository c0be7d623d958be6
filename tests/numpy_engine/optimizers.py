"""AdamW and gradient descent between the steps, on float32 arrays."""

from __future__ import annotations

import numpy as np

from pipeloom.core.contract.optimizer import Arrays, StepOptimizer

#: Kind of ``OptimizerSpec`` -> what checkpoints call it.
NAMES = {"adamw": "AdamW", "sgd": "SGD"}


class NumpyArrays(Arrays):
    def assign(self, target, value):
        target[...] = value

    def sqrt(self, x):
        return np.sqrt(x)

    def sign(self, x):
        return np.sign(x)

    def square_sum(self, x):
        return np.sum(np.square(x), dtype=np.float64)

    def whole_sums(self, values, count):
        return np.array([[float(value) for value in row] for row in values], np.float64).reshape(len(values), count)


class NumpyAdamW(StepOptimizer):
    """Loshchilov & Hutter 2019, algorithm 2."""

    states = ("exp_avg", "exp_avg_sq")

    def __init__(self, spec):
        self.decay, self.numbers = spec.weight_decay, spec.settings

    def update(self, parts, number, rate, arrays):
        beta1, beta2 = self.numbers["beta1"], self.numbers["beta2"]
        for part in parts:
            first, second = part.state["exp_avg"], part.state["exp_avg_sq"]
            first[...] = beta1 * first + (1 - beta1) * part.gradient
            second[...] = beta2 * second + (1 - beta2) * part.gradient**2
            change = (first / (1 - beta1**number)) / (np.sqrt(second / (1 - beta2**number)) + self.numbers["eps"])
            part.weight[...] -= rate * (change + (self.decay if part.spec.decay else 0.0) * part.weight)


class NumpySGD(StepOptimizer):
    """With momentum, and decay added to the gradient; the momentum is the change itself."""

    states = ("momentum_buffer",)

    def __init__(self, spec):
        self.decay, self.momentum = spec.weight_decay, spec.settings.get("momentum", 0.0)

    def update(self, parts, number, rate, arrays):
        for part in parts:
            buffer = part.state["momentum_buffer"]
            gradient = part.gradient + (self.decay if part.spec.decay else 0.0) * part.weight
            buffer[...] = self.momentum * buffer - rate * gradient
            part.weight[...] += buffer


def realised(optimizer):
    """Return the optimizer as one that works between the steps, and its name in checkpoints."""
    if isinstance(optimizer, StepOptimizer):
        return optimizer, type(optimizer).__name__
    return {"adamw": NumpyAdamW, "sgd": NumpySGD}[optimizer.kind](optimizer), NAMES[optimizer.kind]
