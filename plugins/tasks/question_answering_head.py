"""The head that answers questions. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden.
"""

from __future__ import annotations

from pipeloom.core.contract.layers import Linear
from pipeloom.core.contract.scope import Scope


class AnswerHead:
    """Score for each token how well the answer starts there, and how well it ends there."""

    def __init__(self, scope: Scope) -> None:
        self.scope, self.ops = scope, scope.ops
        self.qa_outputs = Linear(scope, "qa_outputs")

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        logits_BL2 = self.qa_outputs(hidden_BLH.reshape(B * L, H)).reshape(B, L, 2)
        results = {}
        for number, which in enumerate(("start", "end")):
            logits_BL = self.ops.narrow(logits_BL2, 2, number, 1).reshape(B, L)
            # What lies outside weighs nothing, and must not reach a kernel that looks it up.
            places_B = self.ops.clamp(fields[f"{which}_positions"], 0, L - 1).reshape(B)
            losses_B = self.ops.cross_entropy(logits_BL, places_B)
            results[f"{which}_loss"] = (losses_B * fields[f"{which}_weights"].reshape(B)).sum()
            if not self.scope.training:
                results[f"{which}_logits"] = logits_BL
        return results
