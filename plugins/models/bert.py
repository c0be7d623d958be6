"""bert: BERT (Devlin et al. 2019): post-LN encoder, learned positions, segments, exact GELU; MLM + NSP."""
from __future__ import annotations

from typing import Any, Dict, List

import pipeloom
from pipeloom.core.blocks import DROPOUT_SEEDS, SAMPLE_WEIGHT, Block, Borrow, Cost, ModelSpec, ParameterSpec
from pipeloom.core.errors import UsageError
from pipeloom.plugins.models.transformer.sizes import Sizes, add_transformer_options, agree, sizes_from

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
    if config.init_from is None:
        return ModelSpec(**_spec(config, task, sizes_from(config)))
    from pipeloom.core.checkpoint.source import open_pretrained
    from pipeloom.core.huggingface import PretrainedModel, Weights

    folder = open_pretrained(config.init_from)
    settings = _settings(folder)
    config = agree(config, settings, folder.path)
    spec = _spec(config, task, sizes_from(config, folder.setting("layer_norm_eps", float, 1e-12)))
    parameters = [parameter for block in spec["blocks"] for parameter in block.parameters]
    weights = Weights(folder, parameters, _stored_names, _not_parameters(config.tie_embeddings))
    return PretrainedModel(**spec, weights=weights, settings=settings)


def _spec(config, task: str, sizes: Sizes) -> Dict[str, Any]:
    """The fields of the ``ModelSpec``."""
    blocks = [_embeddings(sizes, config.tie_embeddings)]
    blocks += [_layer(sizes, number) for number in range(sizes.layers)]
    blocks += [_pretraining_head(sizes, config.tie_embeddings, config.max_predictions)]
    return dict(name="bert", task=task, blocks=tuple(blocks), losses={"mlm_loss": 1.0, "nsp_loss": 1.0},
                normalize=("masked_lm_weights",), sizes=sizes.describe(), huggingface=_config_json(sizes, config.tie_embeddings))


def _config_json(sizes: Sizes, tied: bool) -> Dict[str, Any]:
    """``config.json`` of such a model (transformers' ``BertConfig``)."""
    return {"model_type": "bert", "architectures": ["BertForPreTraining"], "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads, "hidden_size": sizes.hidden, "intermediate_size": sizes.intermediate,
            "vocab_size": sizes.vocab, "max_position_embeddings": sizes.positions, "type_vocab_size": 2, "hidden_act": "gelu",
            "position_embedding_type": "absolute", "layer_norm_eps": sizes.norm_eps, "hidden_dropout_prob": sizes.hidden_dropout,
            "attention_probs_dropout_prob": sizes.attention_dropout, "initializer_range": 0.02, "tie_word_embeddings": tied}


def _settings(folder) -> Dict[str, Any]:
    """The options that a HuggingFace folder decides. Raises ``UsageError`` for what this model does not do."""
    folder.require("model_type", "bert")
    folder.require("hidden_act", "gelu")
    folder.require("position_embedding_type", "absolute")
    folder.require("type_vocab_size", 2)
    settings: Dict[str, Any] = {name: folder.setting(name, int) for name in (
        "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "max_position_embeddings", "vocab_size")}
    if not folder.setting("tie_word_embeddings", bool, True):
        settings["tie_embeddings"] = False
    return settings


def _stored_names(name: str) -> List[str]:
    """Under which names a folder may hold the parameter ``name``, the one to prefer first.

    ``BertModel`` saves its parameters without the prefix, the decoder's bias has two names, and
    checkpoints converted from TensorFlow (bert-base-uncased) say gamma and beta. A decoder with a weight of
    its own starts from the word embedding where the folder has them tied.
    """
    names = [name]
    if name.startswith("bert."):
        names.append(name[len("bert."):])
    elif name == "cls.predictions.bias":
        names.append("cls.predictions.decoder.bias")
    elif name == "cls.predictions.decoder.weight":
        names += _stored_names(WORD)
    for now, once in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        names += [other.replace(now, once) for other in names if other.endswith(now)]
    return names


def _not_parameters(tied: bool) -> List[str]:
    """Names in a folder that are buffers, or say once more what another tensor says."""
    buffers = [f"{prefix}embeddings.{name}" for prefix in ("", "bert.") for name in ("position_ids", "token_type_ids")]
    return [*buffers, "cls.predictions.decoder.bias", *(["cls.predictions.decoder.weight"] if tied else [])]


def _dense(name: str, out: int, inner: int, split: str = ""):
    """``split``: what tensor parallelism splits, the ``"column"``s of the result or the ``"row"``s of the input."""
    return (ParameterSpec(f"{name}.weight", (out, inner), tensor_dim={"column": 0, "row": 1}.get(split)),
            ParameterSpec(f"{name}.bias", (out,), "zeros", decay=False, tensor_dim=0 if split == "column" else None,
                          products=0, lookups=1))


def _norm(name: str, width: int):
    return (ParameterSpec(f"{name}.weight", (width,), "ones", decay=False, products=0, lookups=1),
            ParameterSpec(f"{name}.bias", (width,), "zeros", decay=False, products=0, lookups=1))


def _embeddings(sizes: Sizes, tied: bool) -> Block:
    """``tied``: without a word table of its own; the looked-up vectors come from the head's."""
    h, name = sizes.hidden, "bert.embeddings"
    lookup = 4.0 * h    # a rank finds the words of its own part of the table, the sum over the group is all of them
    word = () if tied else (ParameterSpec(WORD, (sizes.vocab, h), tensor_dim=0, products=0, lookups=1),)

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.Embeddings(scope, sizes, tied)

    return Block("embeddings", word + (
        ParameterSpec(f"{name}.position_embeddings.weight", (sizes.positions, h), products=0, lookups=1),
        ParameterSpec(f"{name}.token_type_embeddings.weight", (2, h), products=0, lookups=1),
        *_norm(f"{name}.LayerNorm", h)),
        # Look-ups and additions, no products: a handful of operations per value.
        Cost(flops=10.0 * h, output_bytes=4.0 * h, kept_bytes=4.0 * 4 * h, tensor_bytes=0.0 if tied else lookup),
        inputs=("segment_ids", DROPOUT_SEEDS) + (() if tied else ("input_ids",)), build=build,
        borrow=Borrow("pretraining_head", "word", "input_ids", copy=_embeddings(sizes, tied=False)) if tied else None)


def _layer(sizes: Sizes, number: int) -> Block:
    h, f, name = sizes.hidden, sizes.intermediate, f"bert.encoder.layer.{number}"

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.Layer(scope, sizes, name)

    return Block(f"layer.{number}", (
        *_dense(f"{name}.attention.self.query", h, h, "column"), *_dense(f"{name}.attention.self.key", h, h, "column"),
        *_dense(f"{name}.attention.self.value", h, h, "column"), *_dense(f"{name}.attention.output.dense", h, h, "row"),
        *_norm(f"{name}.attention.output.LayerNorm", h),
        *_dense(f"{name}.intermediate.dense", f, h, "column"), *_dense(f"{name}.output.dense", h, f, "row"),
        *_norm(f"{name}.output.LayerNorm", h)), sizes.layer_cost(), inputs=("input_mask", DROPOUT_SEEDS), build=build,
        layer=True)


def _pretraining_head(sizes: Sizes, tied: bool, predictions: int) -> Block:
    h, v, name = sizes.hidden, sizes.vocab, "cls.predictions"
    decoder = ParameterSpec(WORD if tied else f"{name}.decoder.weight", (v, h), tensor_dim=0)
    predicted = predictions / sizes.seq_length    # predictions per token of the sequence

    def build(scope):
        from pipeloom.plugins.models.transformer import bert_modules

        return bert_modules.PretrainingHead(scope, sizes, tied)

    return Block("pretraining_head", (
        *_dense("bert.pooler.dense", h, h), *_dense(f"{name}.transform.dense", h, h), *_norm(f"{name}.transform.LayerNorm", h),
        decoder, ParameterSpec(f"{name}.bias", (v,), "zeros", decay=False, tensor_dim=0, products=0, lookups=1),
        *_dense("cls.seq_relationship", 2, h)),
        Cost(flops=predicted * (2.0 * h * v + 2.0 * h * h) + 2.0 * h * h / sizes.seq_length,
             output_bytes=0.0, kept_bytes=4.0 * (h + predicted * (v + 4 * h)),
             # For each prediction the label's row of the decoder and the gradient of its input; the look-ups if tied.
             tensor_bytes=4.0 * (predicted * (2 * h + 4) + (h if tied else 0))),
        inputs=("masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels", SAMPLE_WEIGHT), build=build)
