"""The head of pre-training. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden.
"""

from __future__ import annotations

from pipeloom.core.contract.blocks import SAMPLE_WEIGHT
from pipeloom.core.contract.layers import Linear
from pipeloom.core.contract.scope import Scope
from pipeloom.plugins.models.transformer.masked_words import MaskedWords, MaskedWordsHead


class PretrainingHead(MaskedWordsHead):
    """Predict masked words and next sentences; in evaluation measure both accuracies too."""

    def __init__(self, scope: Scope, words: MaskedWords) -> None:
        # First: in this order gradients are added up for their norm, and a resumed run is to find the same bits.
        self.pooler = Linear(scope, f"{words.encoder.prefix}.pooler.dense")
        super().__init__(scope, words)
        self.relationship = Linear(scope, "cls.seq_relationship")

    def __call__(self, hidden_BLH, fields):
        B, _, H = hidden_BLH.shape
        results, weights_B = super().__call__(hidden_BLH, fields), fields[SAMPLE_WEIGHT].reshape(B)
        pooled_BH = self.ops.tanh(self.pooler(self.ops.narrow(hidden_BLH, 1, 0, 1).reshape(B, H)))
        logits_B2, labels_B = self.relationship(pooled_BH), fields["next_sentence_labels"].reshape(B)
        results["nsp_loss"] = (self.ops.cross_entropy(logits_B2, labels_B) * weights_B).sum()
        if not self.scope.training:
            results["nsp_accuracy"] = self.hits(self.ops.argmax(logits_B2), labels_B, weights_B)
        return results
