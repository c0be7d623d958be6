"""The choice of the next token by its logits: the likeliest, or one drawn by temperature, top-k and top-p.

In numpy, and keyed by the seed, the number of the prompt and the step: a draw is the same in every layout, whatever
prompts are computed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """State how tokens are chosen.

    ``temperature`` divides the logits, 0 takes the largest of them (the first of equal ones). Of what it leaves
    ``top_k`` keeps the k largest and all equal to the last of these (0: all; Fan et al. 2018), and ``top_p`` the fewest
    of the likeliest that have together at least that probability (1: all; Holtzman et al. 2020).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1234

    def choose(self, logits_V: np.ndarray, prompt: int, step: int) -> int:
        """Return a token by its logits; ``prompt`` and ``step``, both from 0, key the draw."""
        if self.temperature == 0:
            return int(logits_V.argmax())
        below_V = self.probabilities(logits_V).cumsum()
        draw = np.random.Generator(np.random.Philox(key=[self.seed, prompt], counter=[0, 0, 0, step])).random()
        # Of what has no probability none is found: it is no larger than what is before it.
        return int(np.searchsorted(below_V, draw * below_V[-1], side="right"))

    def probabilities(self, logits_V: np.ndarray) -> np.ndarray:
        """Return the probability of each token, float64, for a temperature above 0."""
        scaled_V = logits_V.astype(np.float64) / self.temperature
        if 0 < self.top_k < len(scaled_V):
            least = np.partition(scaled_V, -self.top_k)[-self.top_k]
            scaled_V = np.where(scaled_V >= least, scaled_V, -np.inf)
        shares_V = np.exp(scaled_V - scaled_V.max())
        shares_V /= shares_V.sum()
        if self.top_p < 1:
            order_V = np.argsort(-shares_V, kind="stable")
            count = int(np.searchsorted(shares_V[order_V].cumsum(), self.top_p)) + 1
            shares_V[order_V[count:]] = 0.0
            shares_V /= shares_V.sum()
        return shares_V
