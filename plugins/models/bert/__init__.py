"""bert: BERT (Devlin et al. 2019): post-LN encoder, learned positions, segments, exact GELU; for any task's head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List

import numpy as np

import pipeloom
from pipeloom.core.base.errors import shown
from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, Borrow, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.layers import ACTIVATIONS, dense, layer_norm
from pipeloom.core.contract.tasks import Encoder, Head, Task
from pipeloom.plugins.models.bert.bert_pretraining import PRETRAINING_HEAD
from pipeloom.plugins.models.transformer.sizes import Sizes, add_transformer_options, agree, sizes_from

WORD = "bert.embeddings.word_embeddings.weight"


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_transformer_options(options)
    options.add(
        "tie_embeddings",
        bool,
        True,
        section="model",
        help="use the word embedding as the MLM decoder too; false gives the decoder a weight of its own",
    )


@pipeloom.hookimpl
def pipeloom_heads(config):
    return [PRETRAINING_HEAD]


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    if config.init_from is None:
        sizes = sizes_from(config)
        return ModelSpec(**_spec(config, task, sizes, _head(config, task, sizes)))
    from pipeloom.core.checkpoint.pretrained.folder import PretrainedModel, Weights
    from pipeloom.core.checkpoint.pretrained.source import open_pretrained

    folder = open_pretrained(config.init_from)
    settings, notes = _settings(folder), _dropout_notes(folder, config)
    agreed = agree(config, settings, folder.path)
    sizes = sizes_from(agreed, **_fixed(folder))
    head = _head(agreed, task, sizes)
    differing = _differing(folder, head)
    if WORD in (head.repeated[name] for name in differing):
        settings["tie_embeddings"] = False
        agreed = agree(config, settings, folder.path)
        head = _head(agreed, task, sizes)
    notes += [
        f"{name} differs from {other}, though it should be tied to it: {'both are' if other == WORD else 'it is'}"
        " taken, as in transformers"
        for name, other in differing.items()
    ]
    spec = _spec(agreed, task, sizes, head)
    parameters = [parameter for block in spec["blocks"] for parameter in block.parameters]
    unused = [*_BUFFERS, *_stored([*head.repeated, *head.repeated.values()])]
    weights = Weights(folder, parameters, lambda name: _stored_names(name, head), unused, notes)
    if not folder.setting("tie_word_embeddings", bool, True):
        weights.notes += [
            f"{name} is not there: it starts from {stored}"
            for name, stored in weights.found.items()
            if stored not in (*_names(name), *_stored(head.repeated))
        ]
    return PretrainedModel(**spec, weights=weights, settings=settings)


def _head(config, task: Task, sizes: Sizes) -> Head:
    return task.head(
        config,
        Encoder(
            family="bert",
            hidden=sizes.hidden,
            vocab=sizes.vocab,
            seq_length=sizes.seq_length,
            norm_eps=sizes.norm_eps,
            prefix="bert",
            word_table=WORD,
            tied=config.tie_embeddings,
            padding=sizes.padding,
            activation=sizes.activation,
        ),
    )


def _spec(config, task: Task, sizes: Sizes, head: Head) -> Dict[str, Any]:
    """The fields of the ``ModelSpec``."""
    blocks = (_embeddings(sizes, head), *(_layer(sizes, number) for number in range(sizes.layers)), head.block)
    return dict(
        name="bert",
        task=task.name,
        blocks=blocks,
        losses=head.losses,
        metrics=head.metrics,
        normalize=head.normalize,
        scores=head.outputs,
        labels=head.labels,
        sizes=sizes.describe(),
        repeated=head.repeated,
        huggingface=_config_json(sizes, config.tie_embeddings, head),
    )


def _config_json(sizes: Sizes, tied: bool, head: Head) -> Dict[str, Any]:
    """``config.json`` of such a model (transformers' ``BertConfig``)."""
    return {
        "model_type": "bert",
        "architectures": [f"Bert{head.architecture}"],
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "vocab_size": sizes.vocab,
        "max_position_embeddings": sizes.positions,
        "pad_token_id": sizes.padding,
        "type_vocab_size": sizes.segments,
        "hidden_act": sizes.activation,
        "position_embedding_type": "absolute",
        "layer_norm_eps": sizes.norm_eps,
        "hidden_dropout_prob": sizes.hidden_dropout,
        "attention_probs_dropout_prob": sizes.attention_dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": tied,
    }


def _settings(folder) -> Dict[str, Any]:
    """The options that a HuggingFace folder decides. Raises ``UsageError`` for what this model does not do."""
    folder.require("model_type", "bert")
    folder.require("position_embedding_type", "absolute")
    for name in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        folder.require(name, False)
    folder.require("pruned_heads", {}, None)
    folder.require("quantization_config", None)
    settings: Dict[str, Any] = {
        name: folder.setting(name, int)
        for name in (
            "num_hidden_layers",
            "num_attention_heads",
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "vocab_size",
        )
    }
    if not folder.setting("tie_word_embeddings", bool, True):
        settings["tie_embeddings"] = False
    return settings


def _fixed(folder) -> Dict[str, Any]:
    """The sizes that a folder decides and that have no option."""
    folder.require("hidden_act", *ACTIVATIONS)
    padding = folder.config.get("pad_token_id", 0)
    if padding is not None and (type(padding) is not int or not 0 <= padding < folder.setting("vocab_size", int)):
        raise folder.error(f"'pad_token_id' in config.json must be the id of a token, not {shown(padding)}")
    segments, activation = folder.setting("type_vocab_size", int, 2), folder.setting("hidden_act", str, "gelu")
    return dict(
        norm_eps=folder.setting("layer_norm_eps", float, 1e-12),
        segments=segments,
        padding=padding,
        activation=activation,
    )


def _dropout_notes(folder, config) -> List[str]:
    """Dropout is an option of training and not of the folder; a line where they differ and nobody asked for that."""
    return [
        f"config.json has {name} {shown(folder.config[name])}, this run {getattr(config, name)} (--{name})"
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
        if name not in config.given and folder.config.get(name, getattr(config, name)) != getattr(config, name)
    ]


def _differing(folder, head: Head) -> Dict[str, str]:
    """The tensors in a folder that say something else than the parameter that they should repeat, and that one."""

    found = {}
    for name, other in head.repeated.items():
        here, there = (next((one for one in _names(each) if one in folder.tensors), None) for each in (name, other))
        if here is None or there is None:
            continue
        same_shape = folder.tensors[here][0] == folder.tensors[there][0]
        if not same_shape or not np.array_equal(folder.read(here), folder.read(there)):
            found[name] = other
    return found


#: Names in a folder that are no parameters.
_BUFFERS = [f"{prefix}embeddings.{name}" for prefix in ("", "bert.") for name in ("position_ids", "token_type_ids")]


def _stored_names(name: str, head: Head) -> List[str]:
    """Under which names a folder may hold the parameter ``name``, the one to prefer first.

    ``BertModel`` saves its parameters without the prefix, a head may have had other names, and checkpoints converted
    from TensorFlow (bert-base-uncased) say gamma and beta.
    """
    others = head.aliases.get(name, ())
    return _stored(others if name in others else (name, *others))


def _stored(names) -> List[str]:
    return [stored for name in names for stored in _names(name)]


def _names(name: str) -> List[str]:
    """A tensor's name and those that it has had."""
    names = [name]
    names += [other[len("bert.") :] for other in names if other.startswith("bert.")]
    for now, once in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        names += [other.replace(now, once) for other in names if other.endswith(now)]
    return names


def _embeddings(sizes: Sizes, head: Head) -> Block:
    """Those that borrow the looked-up vectors from the head, where it has the word table."""
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


def _layer(sizes: Sizes, number: int) -> Block:
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
