"""The head that predicts the next token at every position. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, C = positions of a chunk, H = hidden, V = vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Tuple

import numpy as np

from pipeloom.core.contract.blocks import NEXT_LOGITS
from pipeloom.core.contract.layers import WordLookup
from pipeloom.core.contract.scope import Scope
from pipeloom.core.contract.tasks import Encoder

#: Added to a logit that is no word: exp of it is 0 in float32.
NEVER = -1e9
#: Logits that are made at once, as far as the number of chunks allows it: 256 MB of them.
_MOST_LOGITS = 2**26
#: Each chunk adds operations to the graph.
_MOST_CHUNKS = 16


def chunks(B: int, L: int, V: int, H: int) -> List[Tuple[int, int]]:
    """Return the chunks of positions whose logits are made at once, as ``(start, positions)``.

    There are no more than take the least memory: n chunks hold logits and softmax of one, 2 B L V / n numbers, and the
    gradients of the decoder of all, n V H, as the engine adds those only in the end (docs/memory.md).
    """
    best = round(math.sqrt(2 * B * L / H))
    count = max(1, min(_MOST_CHUNKS, L, best, -(-B * L * V // _MOST_LOGITS)))
    bounds = [number * L // count for number in range(count + 1)]
    return [(start, stop - start) for start, stop in zip(bounds, bounds[1:])]


class NextTokenHead:
    """Predict the next token at every position; in evaluation count those that are right too."""

    def __init__(self, scope: Scope, encoder: Encoder, table: str) -> None:
        self.scope, self.ops, self.vocab = scope, scope.ops, encoder.vocab
        # As a module of its own: the embeddings of the first stage borrow it when they are tied.
        self.word = WordLookup(scope, table, encoder.padding)
        filled_up, V = self.word.weight.shape[0], encoder.vocab
        # Rows that fill the vocabulary up for the ranks that split it never receive probability.
        self.never = (
            None
            if filled_up == V
            else scope.constant(
                "filled_up_vocabulary",
                lambda: np.where(np.arange(filled_up) < V, 0.0, NEVER).astype(np.float32),
                tensor_dim=0,
                vocabulary=True,
            )
        )

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        if self.scope.decoding is not None:
            last_BH = self.ops.into_group(self.ops.narrow(hidden_BLH, 1, L - 1, 1).reshape(B, H))
            return {NEXT_LOGITS: self.ops.column_linear(last_BH, self.word.weight, self.never)}
        runs, words_BL, weights_BL = chunks(B, L, self.vocab, H), fields["next_ids"], fields["next_weights"]
        if self.scope.training:
            loss = self.ops.vocabulary_loss(hidden_BLH, self.word.weight, self.never, words_BL, weights_BL, runs)
            return {"lm_loss": loss}
        measured = [self._measure(hidden_BLH, words_BL, weights_BL, start, C) for start, C in runs]
        return {name: sum((each[name] for each in measured[1:]), measured[0][name]) for name in measured[0]}

    def _measure(self, hidden_BLH, words_BL, weights_BL, start: int, C: int) -> Dict[str, Any]:
        """Return loss and accuracy of a chunk of positions."""
        B, _, H = hidden_BLH.shape
        x_NH = self.ops.into_group(self.ops.narrow(hidden_BLH, 1, start, C).reshape(B * C, H))
        words_N, weights_N = (self.ops.narrow(of, 1, start, C).reshape(B * C) for of in (words_BL, weights_BL))
        losses_N = self.ops.vocabulary_cross_entropy(x_NH, self.word.weight, self.never, words_N)
        hits_N = self.ops.vocabulary_argmax(x_NH, self.word.weight, self.never) == words_N
        return {
            "lm_loss": (losses_N * weights_N).sum(),
            "lm_accuracy": (self.ops.to_float(hits_N) * weights_N).sum(),
        }
