"""BERT's blocks on the scope of a stage. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden, A = heads, D = head size.
"""

from __future__ import annotations

from pipeloom.core.contract.blocks import DROPOUT_SEEDS
from pipeloom.core.contract.layers import LayerNorm, Linear, WordLookup
from pipeloom.core.contract.scope import Scope
from pipeloom.plugins.models.transformer.sizes import Sizes


class Embeddings:
    """Add up words, positions and segments, and normalise."""

    def __init__(self, scope: Scope, sizes: Sizes, tied: bool) -> None:
        self.ops, self.sizes = scope.ops, sizes
        name = "bert.embeddings"
        self.word = None if tied else WordLookup(scope, f"{name}.word_embeddings.weight", sizes.padding)
        self.position = scope.parameter(f"{name}.position_embeddings.weight")
        self.segment = scope.parameter(f"{name}.token_type_embeddings.weight")
        self.norm = LayerNorm(scope, f"{name}.LayerNorm", sizes.norm_eps)
        self.dropout = scope.dropout(name, sizes.hidden_dropout, sizes.hidden_shape)

    def __call__(self, words_BLH, fields):
        """Embed; ``words_BLH`` are the looked-up vectors when the table is borrowed, else None."""
        if self.word is not None:
            words_BLH = self.word(fields["input_ids"])
        B, L, H = words_BLH.shape
        positions = self.ops.narrow(self.ops.use(self.position), 0, 0, L).reshape(L * H)
        x = self.ops.add_row(words_BLH.reshape(B, L * H), positions).reshape(B * L, H)
        segments_N = fields["segment_ids"].reshape(B * L)
        if self.sizes.segments == 1:
            segments_N = segments_N * 0
        x = x + self.ops.gather(self.segment, segments_N)
        return self.dropout(self.norm(x).reshape(B, L, H), fields[DROPOUT_SEEDS])


class Attention:
    """Attend from each token to all others, with several heads."""

    def __init__(self, scope: Scope, sizes: Sizes, name: str) -> None:
        self.ops, self.sizes = scope.ops, sizes
        self.query = Linear(scope, f"{name}.self.query", "column_linear")
        self.key = Linear(scope, f"{name}.self.key", "column_linear")
        self.value = Linear(scope, f"{name}.self.value", "column_linear")
        self.output = Linear(scope, f"{name}.output.dense", "row_linear")
        self.probs_dropout = scope.dropout(f"{name}.self", sizes.attention_dropout, sizes.scores_shape, split=True)

    def __call__(self, x_NH, mask_B11L, seeds):
        B, L = mask_B11L.shape[0], mask_B11L.shape[3]
        A, D = self.sizes.heads, self.sizes.head_size
        x_NH = self.ops.into_group(x_NH)

        def heads(y_NH):
            return y_NH.reshape(B, L, A, D).permute(0, 2, 1, 3)

        context_BALD = self.ops.attention(
            heads(self.query(x_NH)),
            heads(self.key(x_NH)),
            heads(self.value(x_NH)),
            mask_B11L,
            lambda probs_BALL: self.probs_dropout(probs_BALL, seeds),
        )
        return self.output(context_BALD.permute(0, 2, 1, 3).reshape(B * L, A * D))


class Layer:
    """Compute one post-LN encoder layer."""

    def __init__(self, scope: Scope, sizes: Sizes, name: str) -> None:
        self.ops, self.sizes = scope.ops, sizes
        self.attention = Attention(scope, sizes, f"{name}.attention")
        self.attention_norm = LayerNorm(scope, f"{name}.attention.output.LayerNorm", sizes.norm_eps)
        self.intermediate = Linear(scope, f"{name}.intermediate.dense", "column_linear")
        self.output = Linear(scope, f"{name}.output.dense", "row_linear")
        self.output_norm = LayerNorm(scope, f"{name}.output.LayerNorm", sizes.norm_eps)
        self.attention_dropout = scope.dropout(f"{name}.attention.output", sizes.hidden_dropout, sizes.hidden_shape)
        self.output_dropout = scope.dropout(f"{name}.output", sizes.hidden_dropout, sizes.hidden_shape)

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        seeds = fields[DROPOUT_SEEDS]
        # 0 where there is a token, a large negative number at padding.
        mask_B11L = ((self.ops.to_float(fields["input_mask"]) - 1.0) * -self.ops.MASKED).reshape(B, 1, 1, L)
        x_NH = hidden_BLH.reshape(B * L, H)
        y_NH = self.attention(x_NH, mask_B11L, seeds)
        x_NH = self.attention_norm(x_NH + self._drop(self.attention_dropout, y_NH, seeds, B, L, H))
        y_NH = self.output(self.ops.activation(self.sizes.activation, self.intermediate(self.ops.into_group(x_NH))))
        x_NH = self.output_norm(x_NH + self._drop(self.output_dropout, y_NH, seeds, B, L, H))
        return x_NH.reshape(B, L, H)

    @staticmethod
    def _drop(dropout, x_NH, seeds, B, L, H):
        return dropout(x_NH.reshape(B, L, H), seeds).reshape(B * L, H)
