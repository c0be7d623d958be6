"""Predicting masked words: what BERT's and RoBERTa's heads share, which have other names for the same layers.

A dense layer, activation and LayerNorm on the hidden states at the masked positions, and the decoder, which is the word
embedding where that is tied (Devlin et al. 2019, appendix A.2). Shapes: B = micro-batch, L = sequence, H = hidden,
M = predictions, N = B x M, V = vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

import numpy as np

from pipeloom.core.contract.blocks import Block, Cost, ParameterSpec
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import LayerNorm, Linear, WordLookup, dense, layer_norm
from pipeloom.core.contract.scope import Scope
from pipeloom.core.contract.tasks import Encoder, Head

#: Added to a logit that is no word: exp of it is 0 in float32.
NEVER = -1e9


@dataclass(frozen=True)
class MaskedWords:
    """State the layers that predict ``predictions`` masked words of a sample.

    ``dense``, ``norm``, ``decoder`` and ``bias`` are the names of the layers and of the decoder's bias in HuggingFace's
    layout.
    """

    encoder: Encoder
    predictions: int
    dense: str
    norm: str
    decoder: str
    bias: str

    @property
    def table(self) -> str:
        """The name of the decoder's weight, which is the word embedding where that is tied."""
        return self.encoder.word_table if self.encoder.tied else f"{self.decoder}.weight"

    @property
    def labels(self) -> Tuple[Field, ...]:
        """The fields that the loss alone needs."""
        return (
            Field("masked_lm_ids", (self.predictions,), "int32"),
            Field("masked_lm_weights", (self.predictions,), "float32"),
        )

    @property
    def inputs(self) -> Tuple[str, ...]:
        """All fields that are read."""
        return ("masked_lm_positions", *(field.name for field in self.labels))

    @property
    def parameters(self) -> Tuple[ParameterSpec, ...]:
        """The layers' parameters, the decoder's among them."""
        h, v = self.encoder.hidden, self.encoder.vocab
        return (
            *dense(self.dense, h, h),
            *layer_norm(self.norm, h),
            ParameterSpec(self.table, (v, h), tensor_dim=0, vocabulary=True),
            ParameterSpec(self.bias, (v,), "zeros", decay=False, tensor_dim=0, products=0, lookups=1, vocabulary=True),
        )

    def cost(self, flops_per_sample: float = 0.0, kept_bytes: float = 0.0) -> Cost:
        """What they cost, and what is said besides."""
        h, v, predictions = self.encoder.hidden, self.encoder.vocab, self.predictions
        return Cost(
            flops=0.0,
            output_bytes=0.0,
            kept_bytes=kept_bytes,
            tensor_bytes=4.0 * h if self.encoder.tied else 0.0,  # the look-ups
            flops_per_sample=predictions * (2.0 * h * v + 2.0 * h * h) + flops_per_sample,
            kept_bytes_per_sample=4.0 * predictions * (v + 4 * h),
            # For each prediction the label's row of the decoder and the gradient of its input.
            tensor_bytes_per_sample=4.0 * predictions * (2 * h + 4),
        )

    def names(self) -> Dict[str, Any]:
        """Say what ``Head`` must know of the decoder: ``word_part``, ``aliases`` and ``repeated``.

        The decoder's bias has two names; transformers computes with the second one. A decoder with a weight of its own
        starts from the word embedding where the folder has none, and a word embedding that is not there from the
        decoder that it is tied to.
        """
        table, weight, tied = self.encoder.word_table, f"{self.decoder}.weight", self.encoder.tied
        return dict(
            word_part="word" if tied else None,
            aliases={
                self.bias: (f"{self.decoder}.bias", self.bias),
                weight: (weight, table),
                table: (table, *((weight,) if tied else ())),
            },
            repeated={f"{self.decoder}.bias": self.bias, **({weight: table} if tied else {})},
        )


def predictions_of(config: Any, encoder: Encoder) -> int:
    """Return how many masked words a sample has room for: the option ``max_predictions`` of the dataset, or as many as
    it has tokens where there is no such option."""
    return getattr(config, "max_predictions", None) or encoder.seq_length


def masked_lm_head(words: MaskedWords) -> Head:
    """State the head of the task ``masked_lm``: these layers, and nothing besides."""

    def build(scope):
        return MaskedWordsHead(scope, words)

    block = Block("masked_lm_head", words.parameters, words.cost(), inputs=words.inputs, build=build)
    return Head(
        block,
        losses={"mlm_loss": 1.0},
        metrics=("mlm_accuracy",),
        outputs={"masked_lm_logits": (words.predictions, words.encoder.vocab)},
        labels=words.labels,
        normalize=("masked_lm_weights",),
        architecture="ForMaskedLM",
        pipeline_tag="fill-mask",
        **words.names(),
    )


class MaskedWordsHead:
    """Predict masked words, at the masked positions only; in evaluation measure the accuracy too."""

    def __init__(self, scope: Scope, words: MaskedWords) -> None:
        self.scope, self.ops, self.activation = scope, scope.ops, words.encoder.activation
        self.vocab = words.encoder.vocab
        self.dense = Linear(scope, words.dense)
        self.norm = LayerNorm(scope, words.norm, words.encoder.norm_eps)
        # As a module of its own: the embeddings of the first stage borrow it when they are tied.
        self.word = WordLookup(scope, words.table, words.encoder.padding)
        self.decoder_bias = scope.parameter(words.bias)
        filled_up, V = self.decoder_bias.shape[0], words.encoder.vocab
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
        positions_BM = fields["masked_lm_positions"]
        M = positions_BM.shape[1]
        # A product with one-hot rows picks the masked positions: cheap, and its gradient is a product too.
        chosen_BML = self.ops.one_hot(positions_BM, L)
        x_NH = self.ops.matmul(chosen_BML, hidden_BLH).reshape(B * M, H)
        x_NH = self.norm(self.ops.activation(self.activation, self.dense(x_NH)))
        bias_V = self.ops.use(self.decoder_bias)
        bias_V = bias_V if self.never is None else bias_V + self.never
        x_NH, words_N = self.ops.into_group(x_NH), fields["masked_lm_ids"].reshape(B * M)
        weights_N = fields["masked_lm_weights"].reshape(B * M)
        losses_N = self.ops.vocabulary_cross_entropy(x_NH, self.word.weight, bias_V, words_N)
        results = {"mlm_loss": (losses_N * weights_N).sum()}
        if not self.scope.training:
            answers_N = self.ops.vocabulary_argmax(x_NH, self.word.weight, bias_V)
            results["mlm_accuracy"] = self.hits(answers_N, words_N, weights_N)
        if "masked_lm_logits" in self.scope.scored:
            logits_NV = self.ops.column_linear(x_NH, self.word.weight, bias_V)
            results["masked_lm_logits"] = self.ops.narrow(logits_NV, 1, 0, self.vocab).reshape(B, M, self.vocab)
        return results

    def hits(self, answers_N, labels_N, weights_N):
        """Return the sum of the weights of what is answered right."""
        return (self.ops.to_float(answers_N == labels_N) * weights_N).sum()
