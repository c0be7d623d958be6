"""The names of GPT-2's parameters: transformers' own, but for query, key and value, which are one matrix there."""

from __future__ import annotations

from pipeloom.plugins.models.transformer.transformer_blocks import EmbeddingNames, LayerNames

EMBEDDINGS = EmbeddingNames(
    word="transformer.wte.weight", position="transformer.wpe.weight", dropout="transformer.drop"
)
#: The LayerNorm after the last layer.
FINAL_NORM = "transformer.ln_f"


def gpt2_layer_names(number: int) -> LayerNames:
    """Return the names of layer ``number``."""
    name = f"transformer.h.{number}"
    return LayerNames(
        query=f"{name}.attn.query",
        key=f"{name}.attn.key",
        value=f"{name}.attn.value",
        attention_output=f"{name}.attn.c_proj",
        attention_norm=f"{name}.ln_1",
        intermediate=f"{name}.mlp.c_fc",
        output=f"{name}.mlp.c_proj",
        output_norm=f"{name}.ln_2",
        probs_dropout=f"{name}.attn.attn_dropout",
        attention_dropout=f"{name}.attn.resid_dropout",
        output_dropout=f"{name}.mlp.dropout",
    )
