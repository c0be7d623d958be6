"""HuggingFace folders of BERT and of models that are made like it: ``config.json`` both ways, and how the parameters
stand there.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from pipeloom.core.base.errors import shown
from pipeloom.core.contract.layers import ACTIVATIONS
from pipeloom.core.contract.tasks import Head
from pipeloom.core.contract.weight_adapter import WeightAdapter
from pipeloom.plugins.models.transformer.sizes import Sizes


def adapter_for(prefix: str, head: Head) -> WeightAdapter:
    """Return how the parameters stand in a folder.

    ``BertModel`` saves them without the ``prefix``, and checkpoints converted from TensorFlow (bert-base-uncased) say
    gamma and beta.
    """
    return WeightAdapter(
        prefix=f"{prefix}.",
        spellings=(("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")),
        aliases=head.aliases,
        repeated=head.repeated,
        buffers=(f"{prefix}.embeddings.position_ids", f"{prefix}.embeddings.token_type_ids"),
        fresh=head.fresh,
    )


def config_json(model_type: str, classes: str, sizes: Sizes, tied: bool, head: Head) -> Dict[str, Any]:
    """Return ``config.json`` of such a model (transformers' ``BertConfig``); ``classes``: what the names of
    transformers' classes for it begin with."""
    return {
        "model_type": model_type,
        "architectures": [f"{classes}{head.architecture}"],
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
        **head.config,
    }


def settings_of(folder, model_type: str) -> Dict[str, Any]:
    """Return the options that a HuggingFace folder decides. Raises ``UsageError`` for what this model does not do."""
    folder.require("model_type", model_type)
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


def fixed_sizes(folder, usual: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the sizes that a folder decides and that have no option; ``usual``: those of a folder that does not say
    them, by the names of ``Sizes``."""
    folder.require("hidden_act", *ACTIVATIONS)
    padding = folder.config.get("pad_token_id", usual["padding"])
    if padding is not None and (type(padding) is not int or not 0 <= padding < folder.setting("vocab_size", int)):
        raise folder.error(f"'pad_token_id' in config.json must be the id of a token, not {shown(padding)}")
    return dict(
        norm_eps=folder.setting("layer_norm_eps", float, 1e-12),
        segments=folder.setting("type_vocab_size", int, 2),
        padding=padding,
        activation=folder.setting("hidden_act", str, "gelu"),
    )


def dropout_notes(folder, config) -> List[str]:
    """Return a line for each dropout that differs from the folder's though nobody asked for that: it is an option of
    training and not of the folder."""
    return [
        f"config.json has {name} {shown(folder.config[name])}, this run {getattr(config, name)} (--{name})"
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
        if name not in config.given and folder.config.get(name, getattr(config, name)) != getattr(config, name)
    ]
