"""The models of published tables, built by the plugins ``bert`` and ``gpt2`` as a run builds them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Tuple

from pipeloom.core.commands.request import Request, resolve_request
from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.tied_weights import with_copies

_PLUGINS = {"gpt2": (["inter_first", "gpt2", "text"], "causal_lm"), "bert": (["inter_first", "bert", "wiki_ofrecord"], "pretraining")}  # fmt: skip


@lru_cache(maxsize=None)
def _base(family: str) -> Tuple[Any, Any, Any]:
    names, task = _PLUGINS[family]
    options = {"num_hidden_layers": 1, "num_attention_heads": 1, "nnodes": 1, "nproc_per_node": 1}
    resolved = resolve_request(Request(names, options=options))
    return resolved.config, resolved.plugins, find_task(resolved.plugins, resolved.config, task)


@lru_cache(maxsize=None)
def model_of(
    family: str, layers: int, hidden: int, heads: int, seq_length: int, vocab: int, tied: bool = True
) -> ModelSpec:
    """Return BERT or GPT-2 of these sizes, which predicts at every position and copies a tied table to both ends."""
    config, plugins, task = _base(family)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": seq_length,
        "max_predictions": seq_length,
        "seq_length": seq_length,
        "vocab_size": vocab,
        "tie_embeddings": tied,
    }
    config = config.replace(**{name: value for name, value in sizes.items() if name in config.declared})
    return with_copies(plugins.hook.pipeloom_build_model(config=config, task=task))
