"""GPT-2's HuggingFace folders: ``config.json`` both ways, and how the parameters stand there."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from pipeloom.core.base.errors import shown
from pipeloom.core.contract.layers import ACTIVATIONS
from pipeloom.core.contract.tasks import Head
from pipeloom.core.contract.weight_adapter import TensorRule, WeightAdapter
from pipeloom.plugins.models.gpt2.gpt2_names import gpt2_layer_names
from pipeloom.plugins.models.transformer.sizes import Sizes

#: transformers' names of the sizes -> our options.
_SIZES = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
_ENDS = ("bos_token_id", "eos_token_id")
#: Its classes are named unlike those of later models.
_CLASSES = {"ForCausalLM": "LMHeadModel"}
_DROPOUTS = {
    "embd_pdrop": "hidden_dropout_prob",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
}


def gpt2_adapter(sizes: Sizes, head: Head) -> WeightAdapter:
    """Return how the parameters stand in a folder: matrices as ``(in, out)`` (``Conv1D``), query, key and value in a
    row; ``GPT2Model`` saves them without the prefix, and older files hold masks."""
    rules: List[TensorRule] = []
    buffers: List[str] = []
    for number in range(sizes.layers):
        names = gpt2_layer_names(number)
        fused = f"{names.query.rpartition('.')[0]}.c_attn"
        for kind in ("weight", "bias"):
            parts = tuple(f"{part}.{kind}" for part in (names.query, names.key, names.value))
            matrix = kind == "weight"
            rules.append(TensorRule(parts, (f"{fused}.{kind}",), axis=1 if matrix else 0, transposed=matrix))
        for name in (names.attention_output, names.intermediate, names.output):
            rules.append(TensorRule((f"{name}.weight",), (f"{name}.weight",), transposed=True))
        buffers += [f"transformer.h.{number}.attn.{buffer}" for buffer in ("bias", "masked_bias")]
    return WeightAdapter(
        tuple(rules),
        prefix="transformer.",
        aliases=head.aliases,
        repeated=head.repeated,
        buffers=tuple(buffers),
        fresh=head.fresh,
    )


def gpt2_config(sizes: Sizes, tied: bool, head: Head, ends: Mapping[str, Any]) -> Dict[str, Any]:
    """Return ``config.json`` of such a model (transformers' ``GPT2Config``)."""
    return {
        "model_type": "gpt2",
        "architectures": [f"GPT2{_CLASSES.get(head.architecture, head.architecture)}"],
        "n_layer": sizes.layers,
        "n_head": sizes.heads,
        "n_embd": sizes.hidden,
        "n_inner": None if sizes.intermediate == 4 * sizes.hidden else sizes.intermediate,
        "vocab_size": sizes.vocab,
        "n_positions": sizes.positions,
        "activation_function": sizes.activation,
        "layer_norm_epsilon": sizes.norm_eps,
        "embd_pdrop": sizes.hidden_dropout,
        "resid_pdrop": sizes.hidden_dropout,
        "attn_pdrop": sizes.attention_dropout,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "tie_word_embeddings": tied,
        **{name: ends.get(name) for name in _ENDS},
        **head.config,
    }


def settings_in(folder) -> Dict[str, Any]:
    """Return the options that a folder decides. Raises ``UsageError`` for what this model does not do."""
    folder.require("model_type", "gpt2")
    folder.require("scale_attn_weights", True)
    folder.require("scale_attn_by_inverse_layer_idx", False)
    folder.require("add_cross_attention", False)
    folder.require("pruned_heads", {}, None)
    folder.require("quantization_config", None)
    settings: Dict[str, Any] = {option: folder.setting(name, int) for name, option in _SIZES.items()}
    wide = folder.config.get("n_inner") is not None
    settings["intermediate_size"] = folder.setting("n_inner", int) if wide else 4 * settings["hidden_size"]
    if not folder.setting("tie_word_embeddings", bool, True):
        settings["tie_embeddings"] = False
    return settings


def sizes_in(folder) -> Dict[str, Any]:
    """Return the sizes that a folder decides and that have no option."""
    folder.require("activation_function", *dict.fromkeys(("gelu_new", *ACTIVATIONS)))
    return dict(
        norm_eps=folder.setting("layer_norm_epsilon", float, 1e-5),
        activation=folder.setting("activation_function", str, "gelu_new"),
    )


def ends_in(folder) -> Dict[str, Any]:
    """Return the ids of the tokens that begin and end a text. Raises ``UsageError`` for what is no id."""
    ends = {name: folder.config.get(name) for name in _ENDS}
    for name, value in ends.items():
        if value is not None and (type(value) is not int or value < 0):
            raise folder.error(f"{name!r} in config.json must be the id of a token, not {shown(value)}")
    return ends


def notes_on_dropout(folder, config) -> List[str]:
    """Return a line for each dropout that differs from the folder's though nobody asked for that: it is an option of
    training and not of the folder."""
    return [
        f"config.json has {name} {shown(folder.config[name])}, this run {getattr(config, option)} (--{option})"
        for name, option in _DROPOUTS.items()
        if option not in config.given and folder.config.get(name, getattr(config, option)) != getattr(config, option)
    ]
