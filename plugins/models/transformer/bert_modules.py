"""BERT's blocks as oneflow modules. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden, A = heads, D = head size, M = predictions, V = vocabulary.
"""
from __future__ import annotations

import numpy as np
import oneflow as flow
from oneflow import nn

from pipeloom.core.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT
from pipeloom.plugins.models.transformer.sizes import Sizes

#: Added to a logit that is no word: exp of it is 0 in float32.
NEVER = -1e9


class Linear(nn.Module):
    """``operation`` says how tensor parallelism splits it: ``column_linear``, ``row_linear``, or not at all."""

    def __init__(self, scope, name: str, operation: str = "linear") -> None:
        super().__init__()
        self.ops, self.operation = scope.ops, operation    # by name: nn.Graph rebinds bound methods to its own proxy
        self.weight = scope.parameter(f"{name}.weight")
        self.bias = scope.parameter(f"{name}.bias")

    def forward(self, x_NI):
        return getattr(self.ops, self.operation)(x_NI, self.weight, self.bias)


class LayerNorm(nn.Module):
    def __init__(self, scope, name: str, eps: float) -> None:
        super().__init__()
        self.ops, self.eps = scope.ops, eps
        self.weight = scope.parameter(f"{name}.weight")
        self.bias = scope.parameter(f"{name}.bias")

    def forward(self, x_NH):
        return self.ops.layer_norm(x_NH, self.weight, self.bias, self.eps)


class WordLookup(nn.Module):
    """The word table; lives where the decoder is when they are tied."""

    def __init__(self, scope, name: str) -> None:
        super().__init__()
        self.ops = scope.ops
        self.weight = scope.parameter(name)

    def forward(self, ids_BL):
        return self.ops.lookup(self.weight, ids_BL)               # (B, L, H)


class Embeddings(nn.Module):
    def __init__(self, scope, sizes: Sizes, tied: bool) -> None:
        super().__init__()
        self.ops, self.sizes = scope.ops, sizes
        name = "bert.embeddings"
        self.word = None if tied else WordLookup(scope, f"{name}.word_embeddings.weight")
        self.position = scope.parameter(f"{name}.position_embeddings.weight")
        self.segment = scope.parameter(f"{name}.token_type_embeddings.weight")
        self.norm = LayerNorm(scope, f"{name}.LayerNorm", sizes.norm_eps)
        self.dropout = scope.dropout(name, sizes.hidden_dropout, sizes.hidden_shape)

    def forward(self, words_BLH, fields):
        """``words_BLH``: the looked-up vectors when the table is borrowed, else None."""
        if self.word is not None:
            words_BLH = self.word(fields["input_ids"])
        B, L, H = words_BLH.shape
        positions = flow.narrow(self.ops.use(self.position), 0, 0, L).reshape(L * H)
        x = self.ops.add_row(words_BLH.reshape(B, L * H), positions).reshape(B * L, H)
        x = x + flow._C.gather(self.ops.use(self.segment), fields["segment_ids"].reshape(B * L), axis=0)
        return self.dropout(self.norm(x).reshape(B, L, H), fields[DROPOUT_SEEDS])


class Attention(nn.Module):
    def __init__(self, scope, sizes: Sizes, name: str) -> None:
        super().__init__()
        self.ops, self.sizes = scope.ops, sizes
        self.query = Linear(scope, f"{name}.self.query", "column_linear")
        self.key = Linear(scope, f"{name}.self.key", "column_linear")
        self.value = Linear(scope, f"{name}.self.value", "column_linear")
        self.output = Linear(scope, f"{name}.output.dense", "row_linear")
        self.probs_dropout = scope.dropout(f"{name}.self", sizes.attention_dropout, sizes.scores_shape, split=True)

    def forward(self, x_NH, mask_B11L, seeds):
        B, L = mask_B11L.shape[0], mask_B11L.shape[3]
        A, D = self.sizes.heads, self.sizes.head_size
        x_NH = self.ops.into_group(x_NH)

        def heads(y_NH):
            return y_NH.reshape(B, L, A, D).permute(0, 2, 1, 3)

        context_BALD = self.ops.attention(heads(self.query(x_NH)), heads(self.key(x_NH)), heads(self.value(x_NH)),
                                          mask_B11L, lambda probs_BALL: self.probs_dropout(probs_BALL, seeds))
        return self.output(context_BALD.permute(0, 2, 1, 3).reshape(B * L, A * D))


class Layer(nn.Module):
    """One post-LN encoder layer."""

    def __init__(self, scope, sizes: Sizes, name: str) -> None:
        super().__init__()
        self.ops, self.sizes = scope.ops, sizes
        self.attention = Attention(scope, sizes, f"{name}.attention")
        self.attention_norm = LayerNorm(scope, f"{name}.attention.output.LayerNorm", sizes.norm_eps)
        self.intermediate = Linear(scope, f"{name}.intermediate.dense", "column_linear")
        self.output = Linear(scope, f"{name}.output.dense", "row_linear")
        self.output_norm = LayerNorm(scope, f"{name}.output.LayerNorm", sizes.norm_eps)
        self.attention_dropout = scope.dropout(f"{name}.attention.output", sizes.hidden_dropout, sizes.hidden_shape)
        self.output_dropout = scope.dropout(f"{name}.output", sizes.hidden_dropout, sizes.hidden_shape)

    def forward(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        seeds = fields[DROPOUT_SEEDS]
        # 0 where there is a token, a large negative number at padding.
        mask_B11L = ((fields["input_mask"].to(flow.float32) - 1.0) * -self.ops.MASKED).reshape(B, 1, 1, L)
        x_NH = hidden_BLH.reshape(B * L, H)
        y_NH = self.attention(x_NH, mask_B11L, seeds)
        x_NH = self.attention_norm(x_NH + self._drop(self.attention_dropout, y_NH, seeds, B, L, H))
        y_NH = self.output(self.ops.gelu(self.intermediate(self.ops.into_group(x_NH))))
        x_NH = self.output_norm(x_NH + self._drop(self.output_dropout, y_NH, seeds, B, L, H))
        return x_NH.reshape(B, L, H)

    @staticmethod
    def _drop(dropout, x_NH, seeds, B, L, H):
        return dropout(x_NH.reshape(B, L, H), seeds).reshape(B * L, H)


class PretrainingHead(nn.Module):
    """Pooler, masked-token prediction at the masked positions only, next-sentence prediction; in evaluation their accuracies."""

    def __init__(self, scope, sizes: Sizes, tied: bool) -> None:
        super().__init__()
        self.ops, self.sizes = scope.ops, sizes
        name = "cls.predictions"
        self.pooler = Linear(scope, "bert.pooler.dense")
        self.transform = Linear(scope, f"{name}.transform.dense")
        self.transform_norm = LayerNorm(scope, f"{name}.transform.LayerNorm", sizes.norm_eps)
        # As a module of its own: the embeddings of the first stage borrow it when it is tied.
        self.word = WordLookup(scope, "bert.embeddings.word_embeddings.weight" if tied else f"{name}.decoder.weight")
        self.decoder_bias = scope.parameter(f"{name}.bias")
        filled_up, V = self.decoder_bias.shape[0], sizes.vocab
        # Rows that fill the vocabulary up for tensor parallelism never receive probability.
        self.never = None if filled_up == V else scope.constant(
            "filled_up_vocabulary", lambda: np.where(np.arange(filled_up) < V, 0.0, NEVER).astype(np.float32), tensor_dim=0)
        self.relationship = Linear(scope, "cls.seq_relationship")

    def forward(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        positions_BM = fields["masked_lm_positions"]
        M = positions_BM.shape[1]
        # A product with one-hot rows picks the masked positions: cheap, and its gradient is a product too.
        chosen_BML = flow._C.one_hot(positions_BM, L, 1, 0).to(flow.float32)
        x_NH = flow.matmul(chosen_BML, hidden_BLH).reshape(B * M, H)
        x_NH = self.transform_norm(self.ops.gelu(self.transform(x_NH)))
        bias_V = self.ops.use(self.decoder_bias)
        bias_V = bias_V if self.never is None else bias_V + self.never
        x_NH, words_N = self.ops.into_group(x_NH), fields["masked_lm_ids"].reshape(B * M)
        weights_N, weights_B = fields["masked_lm_weights"].reshape(B * M), fields[SAMPLE_WEIGHT].reshape(B)
        losses_N = self.ops.vocabulary_cross_entropy(x_NH, self.word.weight, bias_V, words_N)

        pooled_BH = flow.tanh(self.pooler(flow.narrow(hidden_BLH, 1, 0, 1).reshape(B, H)))
        logits_B2, labels_B = self.relationship(pooled_BH), fields["next_sentence_labels"].reshape(B)
        results = {"mlm_loss": (losses_N * weights_N).sum(), "nsp_loss": (self.ops.cross_entropy(logits_B2, labels_B) * weights_B).sum()}
        if not self.training:
            results["mlm_accuracy"] = _hits(self.ops.vocabulary_argmax(x_NH, self.word.weight, bias_V), words_N, weights_N)
            results["nsp_accuracy"] = _hits(self.ops.argmax(logits_B2), labels_B, weights_B)
        return results


def _hits(answers_N, labels_N, weights_N):
    """The sum of the weights of what is answered right."""
    return ((answers_N == labels_N).to(flow.float32) * weights_N).sum()
