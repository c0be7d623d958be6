"""gpt2: GPT-2 (Radford et al. 2019): causal, pre-LN, learned positions, GELU by a tanh; for any task's head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping

import pipeloom
from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.tasks import Encoder, Task
from pipeloom.plugins.models.gpt2 import gpt2_folder
from pipeloom.plugins.models.gpt2.gpt2_names import EMBEDDINGS, FINAL_NORM, gpt2_layer_names
from pipeloom.plugins.models.transformer.sizes import Sizes, add_transformer_options, agree, sizes_from
from pipeloom.plugins.models.transformer.transformer_blocks import embeddings, layer, with_final_norm


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_transformer_options(options, positions=1024)
    options.add(
        "attend_across_documents",
        bool,
        True,
        section="model",
        help="tokens attend to documents before theirs in the same sample, as GPT-2's do; false: to their own alone",
    )


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    if config.init_from is None:
        return _model(config, task, _sizes(config), {})
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained
    from pipeloom.plugins.libraries.huggingface.weights import Weights, differing, untied_notes

    folder = open_pretrained(config.init_from)
    settings = gpt2_folder.settings_in(folder)
    agreed = agree(config, settings, folder.path)
    sizes, ends = _sizes(agreed, **gpt2_folder.sizes_in(folder)), gpt2_folder.ends_in(folder)
    model = _model(agreed, task, sizes, ends)
    different = differing(folder, model.adapter)
    if EMBEDDINGS.word in different.values():
        settings["tie_embeddings"] = False
        model = _model(agree(config, settings, folder.path), task, sizes, ends)
    notes = gpt2_folder.notes_on_dropout(folder, config) + untied_notes(different, model)
    return replace(model, weights=Weights(folder, model, notes), settings=settings)


def _sizes(config, **others: Any) -> Sizes:
    form = dict(norm_eps=1e-5, segments=0, padding=None, activation="gelu_new", pre_norm=True, causal=True)
    return sizes_from(config, across_documents=config.attend_across_documents, **{**form, **others})


def _model(config, task: Task, sizes: Sizes, ends: Mapping[str, Any]) -> ModelSpec:
    """``ends``: the ids of the tokens that begin and end a text, as config.json names them."""
    encoder = Encoder(
        family="gpt2",
        hidden=sizes.hidden,
        vocab=sizes.vocab,
        seq_length=sizes.seq_length,
        norm_eps=sizes.norm_eps,
        prefix="transformer",
        word_table=EMBEDDINGS.word,
        tied=config.tie_embeddings,
        activation=sizes.activation,
        causal=True,
    )
    head = with_final_norm(task.head(config, encoder), FINAL_NORM, sizes.hidden, sizes.norm_eps)
    # Radford et al. 2019, section 2.3: what is added to the hidden states is 2 x layers terms.
    residual_std = 0.02 * (2 * sizes.layers) ** -0.5
    layers = [layer(sizes, gpt2_layer_names(number), number, residual_std) for number in range(sizes.layers)]
    return ModelSpec(
        name="gpt2",
        task=task.name,
        blocks=(embeddings(sizes, EMBEDDINGS, head), *layers, head.block),
        losses=head.losses,
        metrics=head.metrics,
        normalize=head.normalize,
        scores=head.outputs,
        labels=head.labels,
        decoded=("input_ids",) if head.decodes else (),
        sizes=sizes.describe(),
        huggingface=gpt2_folder.gpt2_config(sizes, config.tie_embeddings, head, ends),
        adapter=gpt2_folder.gpt2_adapter(sizes, head),
        pipeline_tag=head.pipeline_tag,
    )
