"""LAMB (You et al. 2020, algorithm 2), with trust ratios of whole parameters in every layout.

OneFlow's own leaves the weight decay out of the norm that it divides by, which is not the paper's formula, and sees one
rank's part of a parameter as the whole.
"""

from __future__ import annotations

import oneflow as flow

from pipeloom.plugins.executors.oneflow.step_optimizer import StepOptimizer


class Lamb(StepOptimizer):
    """For gradient g of step t (from 1), rate a and decay l, which is 0 for specs without decay:

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + l w``, ``w = w - a |w| / |u| u``;
    the ratio is 1 where a norm is 0. Norms are those of the whole parameter.
    """

    def __init__(self, parameters, betas, eps: float, weight_decay: float) -> None:
        super().__init__(parameters)
        self._betas, self._eps, self._decay = betas, eps, weight_decay
        self.state = {"exp_avg": self.zeros(), "exp_avg_sq": self.zeros()}

    def update(self, gradients, number: int, rate: float) -> None:
        beta1, beta2 = self._betas
        updates, squares = [], []
        for index, ((spec, tensor), gradient) in enumerate(zip(self.parameters, gradients)):
            if gradient is None:
                updates.append(None)
                squares.append((None, None))
                continue
            first, second = (self.part(self.state[kind][index]) for kind in ("exp_avg", "exp_avg_sq"))
            first.copy_(first * beta1 + gradient * (1 - beta1))
            second.copy_(second * beta2 + gradient * gradient * (1 - beta2))
            weight = self.part(tensor)
            update = first * (1 / (1 - beta1**number)) / (flow.sqrt(second * (1 / (1 - beta2**number))) + self._eps)
            if spec.decay and self._decay:
                update = update + weight * self._decay
            updates.append(update)
            squares.append((_square_sum(weight), _square_sum(update)))
        for update, (_, tensor), (of_weight, of_update) in zip(updates, self.parameters, self.sums_over_parts(squares)):
            if update is not None:
                ratio = (of_weight / of_update) ** 0.5 if of_weight > 0 and of_update > 0 else 1.0
                self.part(tensor).sub_(update * float(rate * ratio))


def _square_sum(x):
    # Row by row first: a naive sum over millions of numbers loses digits.
    square = x * x
    return (square.sum(dim=-1) if len(square.shape) > 1 else square).sum()
