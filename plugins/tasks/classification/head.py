"""The head that classifies. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden, C = classes (1 for a regression).
"""

from __future__ import annotations

from typing import Tuple

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT
from pipeloom.core.contract.layers import Linear
from pipeloom.core.contract.scope import Scope


class ClassificationHead:
    """Score the classes by the first token, or give a value; the loss is cross entropy, or the squared error.

    ``names``: of the two dense layers; ``sizes``: H and C; ``label``: the field that is learned; ``drops_hidden``:
    whether there is dropout before the first layer too.
    """

    def __init__(
        self,
        scope: Scope,
        names: Tuple[str, str],
        sizes: Tuple[int, int],
        label: str,
        dropout: float,
        drops_hidden: bool,
    ) -> None:
        self.scope, self.ops, self.label = scope, scope.ops, label
        self.pooler, self.classifier = Linear(scope, names[0]), Linear(scope, names[1])
        self.hidden, self.classes = sizes
        self.drop_hidden = scope.dropout("head.hidden", dropout if drops_hidden else 0.0, (self.hidden,))
        self.drop_pooled = scope.dropout("head.pooled", dropout, (self.hidden,))

    def __call__(self, hidden_BLH, fields):
        B, seeds = hidden_BLH.shape[0], fields[DROPOUT_SEEDS]
        first_BH = self.drop_hidden(self.ops.narrow(hidden_BLH, 1, 0, 1).reshape(B, self.hidden), seeds)
        pooled_BH = self.drop_pooled(self.ops.tanh(self.pooler(first_BH)), seeds)
        logits_BC = self.classifier(pooled_BH)
        if self.label == "targets":
            error_B = logits_BC.reshape(B) - fields["targets"].reshape(B)
            losses_B = error_B * error_B
        else:
            losses_B = self.ops.cross_entropy(logits_BC, fields["labels"].reshape(B))
        results = {"label_loss": (losses_B * fields[SAMPLE_WEIGHT].reshape(B)).sum()}
        if not self.scope.training:
            results["logits"] = logits_BC
        return results
