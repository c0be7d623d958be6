"""The blocks of a transformer: their parameters, by names that each model gives, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, Borrow, Cost, ParameterSpec
from pipeloom.core.contract.layers import dense, layer_norm
from pipeloom.core.contract.tasks import Head
from pipeloom.plugins.models.transformer.attention import layer_cost
from pipeloom.plugins.models.transformer.sizes import Sizes


@dataclass(frozen=True)
class EmbeddingNames:
    """Name the tables of the embeddings, and the LayerNorm and the dropout over their sum; ``None``: it has none."""

    word: str
    position: str
    dropout: str
    segment: Optional[str] = None
    norm: Optional[str] = None


@dataclass(frozen=True)
class LayerNames:
    """Name the dense layers and LayerNorms of a layer, and the places of its dropout: of the attention probabilities
    and of what attention and MLP give."""

    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str
    probs_dropout: str
    attention_dropout: str
    output_dropout: str


def bert_embedding_names(prefix: str) -> EmbeddingNames:
    """Return the names that transformers gives the embeddings of BERT and RoBERTa."""
    name = f"{prefix}.embeddings"
    return EmbeddingNames(
        word=f"{name}.word_embeddings.weight",
        position=f"{name}.position_embeddings.weight",
        dropout=name,
        segment=f"{name}.token_type_embeddings.weight",
        norm=f"{name}.LayerNorm",
    )


def bert_layer_names(prefix: str, number: int) -> LayerNames:
    """Return the names that transformers gives layer ``number`` of BERT and RoBERTa."""
    name = f"{prefix}.encoder.layer.{number}"
    return LayerNames(
        query=f"{name}.attention.self.query",
        key=f"{name}.attention.self.key",
        value=f"{name}.attention.self.value",
        attention_output=f"{name}.attention.output.dense",
        attention_norm=f"{name}.attention.output.LayerNorm",
        intermediate=f"{name}.intermediate.dense",
        output=f"{name}.output.dense",
        output_norm=f"{name}.output.LayerNorm",
        probs_dropout=f"{name}.attention.self",
        attention_dropout=f"{name}.attention.output",
        output_dropout=f"{name}.output",
    )


def embeddings(sizes: Sizes, names: EmbeddingNames, head: Head) -> Block:
    """State the embeddings; they borrow the looked-up vectors from the head, where that has the word table."""
    own = _embeddings_block(sizes, names, tied=False)
    if head.word_part is None:
        return own
    borrow = Borrow(head.block.name, head.word_part, "input_ids", copy=own)
    return replace(_embeddings_block(sizes, names, tied=True), borrow=borrow)


def _embeddings_block(sizes: Sizes, names: EmbeddingNames, tied: bool) -> Block:
    """``tied``: without a word table of its own; the looked-up vectors come from elsewhere."""
    h = sizes.hidden
    lookup = 4.0 * h  # a rank finds the words of its own part of the table, the sum over the group is all of them

    def table(name: str, rows: int, words: bool = False) -> ParameterSpec:
        return ParameterSpec(name, (rows, h), tensor_dim=0 if words else None, products=0, lookups=1, vocabulary=words)

    def build(scope):
        from pipeloom.plugins.models.transformer import modules

        return modules.Embeddings(scope, sizes, names, tied)

    return Block(
        "embeddings",
        (
            *(() if tied else (table(names.word, sizes.vocab, words=True),)),
            table(names.position, sizes.positions),
            *(() if names.segment is None else (table(names.segment, sizes.segments),)),
            *(() if names.norm is None else layer_norm(names.norm, h)),
        ),
        # Look-ups and additions, no products: a handful of operations per value.
        Cost(flops=10.0 * h, output_bytes=4.0 * h, kept_bytes=4.0 * 4 * h, tensor_bytes=0.0 if tied else lookup),
        inputs=(
            *(() if names.segment is None or sizes.segments == 1 else ("segment_ids",)),
            DROPOUT_SEEDS,
            *(() if tied and not sizes.count_tokens else ("input_ids",)),
        ),
        build=build,
    )


def layer(sizes: Sizes, names: LayerNames, number: int, residual_std: float = 0.02) -> Block:
    """State the layer ``number``, counted from 0; ``residual_std``: the standard deviation of the initial weights of
    the two projections whose results are added to the hidden states."""
    h, f = sizes.hidden, sizes.intermediate

    def build(scope):
        from pipeloom.plugins.models.transformer import modules

        return modules.Layer(scope, sizes, names)

    attention: Tuple[ParameterSpec, ...] = (
        *dense(names.query, h, h, "column"),
        *dense(names.key, h, h, "column"),
        *dense(names.value, h, h, "column"),
        *dense(names.attention_output, h, h, "row", residual_std),
    )
    mlp = (*dense(names.intermediate, f, h, "column"), *dense(names.output, h, f, "row", residual_std))
    return Block(
        f"layer.{number}",
        (*attention, *layer_norm(names.attention_norm, h), *mlp, *layer_norm(names.output_norm, h)),
        layer_cost(sizes),
        inputs=(*_mask_fields(sizes), DROPOUT_SEEDS),
        build=build,
        layer=True,
    )


def _mask_fields(sizes: Sizes) -> Tuple[str, ...]:
    if not sizes.causal:
        return ("input_mask",)
    return () if sizes.across_documents else ("document_ids",)


def with_final_norm(head: Head, name: str, width: int, eps: float) -> Head:
    """Return ``head`` behind a LayerNorm ``name``, which a pre-LN model has after its last layer."""
    inner = head.block

    def build(scope):
        from pipeloom.plugins.models.transformer import modules

        return modules.Normalised(scope, name, eps, inner.build(scope))

    cost = replace(inner.cost, flops=inner.cost.flops + 10.0 * width, kept_bytes=inner.cost.kept_bytes + 8.0 * width)
    block = replace(inner, parameters=(*layer_norm(name, width), *inner.parameters), cost=cost, build=build)
    return replace(head, block=block)
