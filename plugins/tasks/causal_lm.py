"""Causal language models: at each position the token that follows (Radford et al. 2019)."""

from __future__ import annotations

import math
from typing import Mapping

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import Block, Cost, ParameterSpec
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.tasks import Encoder, Head, Task

_DECODER = "lm_head.weight"


def _head(config, encoder: Encoder) -> Head:
    """State the head as transformers' ...ForCausalLM has it: the word table as the decoder, or a matrix of its own.

    Raises ``UsageError`` for a model whose tokens see later ones.
    """
    if not encoder.causal:
        raise UsageError(
            f"the task 'causal_lm' needs a model whose tokens see no later ones, which '{encoder.family}' is not: "
            "choose another model (gpt2) or other data"
        )
    h, v, length, tied = encoder.hidden, encoder.vocab, encoder.seq_length, encoder.tied
    table = encoder.word_table if tied else _DECODER
    labels = (Field("next_ids", (length,), "int32", 0, v), Field("next_weights", (length,), "float32"))

    def build(scope):
        from pipeloom.plugins.tasks.causal_lm_head import NextTokenHead

        return NextTokenHead(scope, encoder, table)

    block = Block(
        "lm_head",
        # A product, and the rows of the labels.
        (ParameterSpec(table, (v, h), tensor_dim=0, products=1, lookups=1, vocabulary=True),),
        Cost(
            flops=2.0 * h * v,
            output_bytes=0.0,
            # The gradient of the input, which is made at once (no logits are kept), and the labels' rows.
            kept_bytes=4.0 * 3 * h,
            # For each prediction the label's row of the decoder and the gradient of its input.
            tensor_bytes=4.0 * (2 * h + 4),
        ),
        inputs=tuple(field.name for field in labels),
        build=build,
    )
    return Head(
        block,
        losses={"lm_loss": 1.0},
        metrics=("lm_accuracy",),
        labels=labels,
        normalize=("next_weights",),
        word_part="word" if tied else None,
        decodes=True,
        architecture="ForCausalLM",
        pipeline_tag="text-generation",
        # A decoder with a weight of its own starts from the word embedding where the folder has none.
        aliases={} if tied else {_DECODER: (_DECODER, encoder.word_table)},
        repeated={_DECODER: encoder.word_table} if tied else {},
    )


def _perplexity(measured: Mapping[str, float]) -> float:
    """Compute exp of the mean loss of a token; infinite where that is beyond all numbers."""
    try:
        return math.exp(measured["lm_loss"])
    except OverflowError:
        return math.inf


CAUSAL_LM = Task("causal_lm", _head, derived_figures={"perplexity": _perplexity}, higher=("lm_accuracy",))
