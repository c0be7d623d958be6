"""The blocks of BERT's encoder: their parameters by HuggingFace's names, and what they cost."""

from __future__ import annotations

from dataclasses import replace

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, Borrow, Cost, ParameterSpec
from pipeloom.core.contract.layers import dense, layer_norm
from pipeloom.core.contract.tasks import Head
from pipeloom.plugins.models.transformer.sizes import Sizes

#: The word embedding, ``(vocab, hidden)``.
WORD = "bert.embeddings.word_embeddings.weight"


def embeddings(sizes: Sizes, head: Head) -> Block:
    """State the embeddings; they borrow the looked-up vectors from the head, where that has the word table."""
    own = _embeddings_block(sizes, tied=False)
    if head.word_part is None:
        return own
    return replace(
        _embeddings_block(sizes, tied=True), borrow=Borrow(head.block.name, head.word_part, "input_ids", copy=own)
    )


def _embeddings_block(sizes: Sizes, tied: bool) -> Block:
    """``tied``: without a word table of its own; the looked-up vectors come from elsewhere."""
    h, name = sizes.hidden, "bert.embeddings"
    lookup = 4.0 * h  # a rank finds the words of its own part of the table, the sum over the group is all of them
    word = () if tied else (ParameterSpec(WORD, (sizes.vocab, h), tensor_dim=0, products=0, lookups=1),)

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.Embeddings(scope, sizes, tied)

    return Block(
        "embeddings",
        word
        + (
            ParameterSpec(f"{name}.position_embeddings.weight", (sizes.positions, h), products=0, lookups=1),
            ParameterSpec(f"{name}.token_type_embeddings.weight", (sizes.segments, h), products=0, lookups=1),
            *layer_norm(f"{name}.LayerNorm", h),
        ),
        # Look-ups and additions, no products: a handful of operations per value.
        Cost(flops=10.0 * h, output_bytes=4.0 * h, kept_bytes=4.0 * 4 * h, tensor_bytes=0.0 if tied else lookup),
        inputs=("segment_ids", DROPOUT_SEEDS) + (() if tied else ("input_ids",)),
        build=build,
    )


def layer(sizes: Sizes, number: int) -> Block:
    """State the encoder layer ``number``, counted from 0."""
    h, f, name = sizes.hidden, sizes.intermediate, f"bert.encoder.layer.{number}"

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.Layer(scope, sizes, name)

    return Block(
        f"layer.{number}",
        (
            *dense(f"{name}.attention.self.query", h, h, "column"),
            *dense(f"{name}.attention.self.key", h, h, "column"),
            *dense(f"{name}.attention.self.value", h, h, "column"),
            *dense(f"{name}.attention.output.dense", h, h, "row"),
            *layer_norm(f"{name}.attention.output.LayerNorm", h),
            *dense(f"{name}.intermediate.dense", f, h, "column"),
            *dense(f"{name}.output.dense", h, f, "row"),
            *layer_norm(f"{name}.output.LayerNorm", h),
        ),
        sizes.layer_cost(),
        inputs=("input_mask", DROPOUT_SEEDS),
        build=build,
        layer=True,
    )
