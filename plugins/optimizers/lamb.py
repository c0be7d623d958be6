"""LAMB (You et al. 2020, algorithm 2), with trust ratios of whole parameters in every layout.

OneFlow's own leaves the weight decay out of the norm that it divides by, which is not the paper's formula, and sees one
rank's part of a parameter as the whole.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from pipeloom.core.contract.optimizer import Arrays, Part, StepOptimizer


class Lamb(StepOptimizer):
    """Update by LAMB.

    For gradient g of step t (from 1), rate a and decay l, which is 0 for specs without decay:

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + l w``, ``w = w - a |w| / |u| u``;
    the ratio is 1 where a norm is 0. Norms are those of the whole parameter.
    """

    states = ("exp_avg", "exp_avg_sq")

    def __init__(self, betas: Tuple[float, float], eps: float, weight_decay: float) -> None:
        self._betas, self._eps, self._decay = betas, eps, weight_decay

    def update(self, parts: List[Optional[Part]], number: int, rate: float, arrays: Arrays) -> None:
        changes = [None if part is None else self._change(part, number, arrays) for part in parts]
        squares = [
            None if part is None else (arrays.square_sum(part.weight), arrays.square_sum(change))
            for part, change in zip(parts, changes)
        ]
        for part, change, (of_weight, of_change) in zip(parts, changes, arrays.whole_sums(squares, 2)):
            if part is not None and change is not None:
                ratio = (of_weight / of_change) ** 0.5 if of_weight > 0 and of_change > 0 else 1.0
                arrays.assign(part.weight, part.weight - change * float(rate * ratio))

    def _change(self, part: Part, number: int, arrays: Arrays):
        """Return u, and move the moments on."""
        beta1, beta2 = self._betas
        first, second = part.state["exp_avg"], part.state["exp_avg_sq"]
        arrays.assign(first, first * beta1 + part.gradient * (1 - beta1))
        arrays.assign(second, second * beta2 + part.gradient * part.gradient * (1 - beta2))
        denominator = arrays.sqrt(second * (1 / (1 - beta2**number))) + self._eps
        change = first * (1 / (1 - beta1**number)) / denominator
        return change + part.weight * self._decay if part.spec.decay and self._decay else change
