"""The head of pre-training. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden, M = predictions, V = vocabulary.
"""

from __future__ import annotations

import numpy as np

from pipeloom.core.contract.blocks import SAMPLE_WEIGHT
from pipeloom.core.contract.layers import LayerNorm, Linear, WordLookup
from pipeloom.core.contract.scope import Scope
from pipeloom.core.contract.tasks import Encoder

#: Added to a logit that is no word: exp of it is 0 in float32.
NEVER = -1e9


class PretrainingHead:
    """Predict masked tokens, at the masked positions only, and next sentences; in evaluation measure accuracies too."""

    def __init__(self, scope: Scope, encoder: Encoder) -> None:
        self.scope, self.ops, self.activation = scope, scope.ops, encoder.activation
        name = "cls.predictions"
        self.pooler = Linear(scope, f"{encoder.prefix}.pooler.dense")
        self.transform = Linear(scope, f"{name}.transform.dense")
        self.transform_norm = LayerNorm(scope, f"{name}.transform.LayerNorm", encoder.norm_eps)
        # As a module of its own: the embeddings of the first stage borrow it when they are tied.
        self.word = WordLookup(scope, encoder.word_table if encoder.tied else f"{name}.decoder.weight", encoder.padding)
        self.decoder_bias = scope.parameter(f"{name}.bias")
        filled_up, V = self.decoder_bias.shape[0], encoder.vocab
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
        self.relationship = Linear(scope, "cls.seq_relationship")

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        positions_BM = fields["masked_lm_positions"]
        M = positions_BM.shape[1]
        # A product with one-hot rows picks the masked positions: cheap, and its gradient is a product too.
        chosen_BML = self.ops.one_hot(positions_BM, L)
        x_NH = self.ops.matmul(chosen_BML, hidden_BLH).reshape(B * M, H)
        x_NH = self.transform_norm(self.ops.activation(self.activation, self.transform(x_NH)))
        bias_V = self.ops.use(self.decoder_bias)
        bias_V = bias_V if self.never is None else bias_V + self.never
        x_NH, words_N = self.ops.into_group(x_NH), fields["masked_lm_ids"].reshape(B * M)
        weights_N, weights_B = fields["masked_lm_weights"].reshape(B * M), fields[SAMPLE_WEIGHT].reshape(B)
        losses_N = self.ops.vocabulary_cross_entropy(x_NH, self.word.weight, bias_V, words_N)

        pooled_BH = self.ops.tanh(self.pooler(self.ops.narrow(hidden_BLH, 1, 0, 1).reshape(B, H)))
        logits_B2, labels_B = self.relationship(pooled_BH), fields["next_sentence_labels"].reshape(B)
        results = {
            "mlm_loss": (losses_N * weights_N).sum(),
            "nsp_loss": (self.ops.cross_entropy(logits_B2, labels_B) * weights_B).sum(),
        }
        if not self.scope.training:
            results["mlm_accuracy"] = self._hits(
                self.ops.vocabulary_argmax(x_NH, self.word.weight, bias_V), words_N, weights_N
            )
            results["nsp_accuracy"] = self._hits(self.ops.argmax(logits_B2), labels_B, weights_B)
        return results

    def _hits(self, answers_N, labels_N, weights_N):
        """Return the sum of the weights of what is answered right."""
        return (self.ops.to_float(answers_N == labels_N) * weights_N).sum()
