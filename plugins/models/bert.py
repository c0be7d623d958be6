"""bert: BERT (Devlin et al. 2019): post-LN encoder, learned positions, segments, exact GELU; MLM + NSP."""
from __future__ import annotations

import pipeloom
from pipeloom.core.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT, Block, Borrow, Cost, ModelSpec, ParameterSpec
from pipeloom.core.errors import UsageError
from pipeloom.plugins.models.transformer.sizes import Sizes, add_transformer_options, sizes_from

WORD = "bert.embeddings.word_embeddings.weight"


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_transformer_options(options)
    options.add("tie_embeddings", bool, True, section="model",
                help="use the word embedding as the MLM decoder too; false gives the decoder a weight of its own")


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    if task != "pretraining":
        raise UsageError(f"model 'bert' has no task '{task}': it does pretraining")
    sizes = sizes_from(config)
    blocks = [_embeddings(sizes, config.tie_embeddings)]
    blocks += [_layer(sizes, number) for number in range(sizes.layers)]
    blocks += [_pretraining_head(sizes, config.tie_embeddings, config.max_predictions)]
    return ModelSpec(name="bert", task=task, blocks=tuple(blocks), losses={"mlm_loss": 1.0, "nsp_loss": 1.0},
                     normalize=("masked_lm_weights",), sizes=sizes.describe())


def _dense(name: str, out: int, inner: int):
    return ParameterSpec(f"{name}.weight", (out, inner)), ParameterSpec(f"{name}.bias", (out,), "zeros", decay=False)


def _norm(name: str, width: int):
    return (ParameterSpec(f"{name}.weight", (width,), "ones", decay=False),
            ParameterSpec(f"{name}.bias", (width,), "zeros", decay=False))


def _embeddings(sizes: Sizes, tied: bool) -> Block:
    h, name = sizes.hidden, "bert.embeddings"
    word = () if tied else (ParameterSpec(WORD, (sizes.vocab, h)),)

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.Embeddings(scope, sizes, tied)

    return Block("embeddings", word + (
        ParameterSpec(f"{name}.position_embeddings.weight", (sizes.positions, h)),
        ParameterSpec(f"{name}.token_type_embeddings.weight", (2, h)),
        *_norm(f"{name}.LayerNorm", h)),
        # Look-ups and additions, no products: a handful of operations per value.
        Cost(flops=10.0 * h, output_bytes=4.0 * h, kept_bytes=4.0 * 4 * h),
        inputs=("segment_ids", DROPOUT_SEEDS) + (() if tied else ("input_ids",)), build=build,
        borrow=Borrow("pretraining_head", "word", "input_ids") if tied else None)


def _layer(sizes: Sizes, number: int) -> Block:
    h, f, name = sizes.hidden, sizes.intermediate, f"bert.encoder.layer.{number}"

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.Layer(scope, sizes, name)

    return Block(f"layer.{number}", (
        *_dense(f"{name}.attention.self.query", h, h), *_dense(f"{name}.attention.self.key", h, h),
        *_dense(f"{name}.attention.self.value", h, h), *_dense(f"{name}.attention.output.dense", h, h),
        *_norm(f"{name}.attention.output.LayerNorm", h),
        *_dense(f"{name}.intermediate.dense", f, h), *_dense(f"{name}.output.dense", h, f),
        *_norm(f"{name}.output.LayerNorm", h)), sizes.layer_cost(), inputs=("input_mask", DROPOUT_SEEDS), build=build)


def _pretraining_head(sizes: Sizes, tied: bool, predictions: int) -> Block:
    h, v, name = sizes.hidden, sizes.vocab, "cls.predictions"
    decoder = ParameterSpec(WORD if tied else f"{name}.decoder.weight", (v, h))
    predicted = predictions / sizes.seq_length    # predictions per token of the sequence

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.PretrainingHead(scope, sizes, tied)

    return Block("pretraining_head", (
        *_dense("bert.pooler.dense", h, h), *_dense(f"{name}.transform.dense", h, h), *_norm(f"{name}.transform.LayerNorm", h),
        decoder, ParameterSpec(f"{name}.bias", (v,), "zeros", decay=False), *_dense("cls.seq_relationship", 2, h)),
        Cost(flops=predicted * (2.0 * h * v + 2.0 * h * h) + 2.0 * h * h / sizes.seq_length,
             output_bytes=0.0, kept_bytes=4.0 * (h + predicted * (v + 4 * h))),
        inputs=("masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels", SAMPLE_WEIGHT), build=build)
