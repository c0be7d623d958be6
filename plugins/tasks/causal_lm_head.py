"""The head that predicts the next token at every position. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, C = positions of a chunk, H = hidden, V = vocabulary.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

import numpy as np

from pipeloom.core.contract.layers import WordLookup
from pipeloom.core.contract.scope import Scope
from pipeloom.core.contract.tasks import Encoder

#: Added to a logit that is no word: exp of it is 0 in float32.
NEVER = -1e9
#: Logits that are made at once, as far as the number of chunks allows it: 64 MB of them.
_MOST_LOGITS = 2**24
#: Each chunk adds operations to the graph.
_MOST_CHUNKS = 16


def chunks(B: int, L: int, V: int) -> Iterator[Tuple[int, int]]:
    """Yield the chunks of positions whose logits are made at once, as ``(start, positions)``."""
    count = max(1, min(_MOST_CHUNKS, L, -(-B * L * V // _MOST_LOGITS)))
    bounds = [number * L // count for number in range(count + 1)]
    for start, stop in zip(bounds, bounds[1:]):
        yield start, stop - start


class NextTokenHead:
    """Predict the next token at every position; in evaluation count those that are right too."""

    def __init__(self, scope: Scope, encoder: Encoder, table: str) -> None:
        self.scope, self.ops, self.vocab = scope, scope.ops, encoder.vocab
        # As a module of its own: the embeddings of the first stage borrow it when they are tied.
        self.word = WordLookup(scope, table, encoder.padding)
        filled_up, V = self.word.weight.shape[0], encoder.vocab
        # Rows that fill the vocabulary up for tensor parallelism never receive probability.
        self.never = (
            None
            if filled_up == V
            else scope.constant(
                "filled_up_vocabulary",
                lambda: np.where(np.arange(filled_up) < V, 0.0, NEVER).astype(np.float32),
                tensor_dim=0,
            )
        )

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        results: Dict[str, Any] = {}
        for start, C in chunks(B, L, self.vocab):
            x_NH = self.ops.into_group(self.ops.narrow(hidden_BLH, 1, start, C).reshape(B * C, H))
            words_N = self.ops.narrow(fields["next_ids"], 1, start, C).reshape(B * C)
            weights_N = self.ops.narrow(fields["next_weights"], 1, start, C).reshape(B * C)
            losses_N = self.ops.vocabulary_cross_entropy(x_NH, self.word.weight, self.never, words_N)
            sums = {"lm_loss": (losses_N * weights_N).sum()}
            if not self.scope.training:
                answers_N = self.ops.vocabulary_argmax(x_NH, self.word.weight, self.never)
                sums["lm_accuracy"] = (self.ops.to_float(answers_N == words_N) * weights_N).sum()
            results = {name: results[name] + value if results else value for name, value in sums.items()}
        return results
