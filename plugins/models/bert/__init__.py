"""bert: BERT (Devlin et al. 2019): post-LN encoder, learned positions, segments, exact GELU; for any task's head."""

from __future__ import annotations

from dataclasses import replace

import pipeloom
from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.tasks import Encoder, Task
from pipeloom.plugins.models.bert import huggingface
from pipeloom.plugins.models.bert.bert_pretraining import HEADS
from pipeloom.plugins.models.transformer.sizes import Sizes, add_transformer_options, agree, sizes_from
from pipeloom.plugins.models.transformer.transformer_blocks import (
    bert_embedding_names,
    bert_layer_names,
    embeddings,
    layer,
)

__all__ = ["WORD", "pipeloom_add_options", "pipeloom_build_model", "pipeloom_heads"]

_EMBEDDINGS = bert_embedding_names("bert")
#: The word embedding, ``(vocab, hidden)``.
WORD = _EMBEDDINGS.word


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add_transformer_options(options)


@pipeloom.hookimpl
def pipeloom_heads(config):
    return list(HEADS)


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    if config.init_from is None:
        return _model(config, task, sizes_from(config))
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained
    from pipeloom.plugins.libraries.huggingface.weights import Weights, differing, untied_notes

    folder = open_pretrained(config.init_from)
    settings = huggingface.settings_of(folder)
    agreed = agree(config, settings, folder.path)
    sizes = sizes_from(agreed, **huggingface.fixed_sizes(folder))
    model = _model(agreed, task, sizes)
    different = differing(folder, model.adapter)
    if WORD in different.values():
        settings["tie_embeddings"] = False
        model = _model(agree(config, settings, folder.path), task, sizes)
    notes = huggingface.dropout_notes(folder, config) + untied_notes(different, model)
    return replace(model, weights=Weights(folder, model, notes), settings=settings)


def _model(config, task: Task, sizes: Sizes) -> ModelSpec:
    encoder = Encoder(
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
    )
    head = task.head(config, encoder)
    return ModelSpec(
        name="bert",
        task=task.name,
        blocks=(
            embeddings(sizes, _EMBEDDINGS, head),
            *(layer(sizes, bert_layer_names("bert", number), number) for number in range(sizes.layers)),
            head.block,
        ),
        losses=head.losses,
        metrics=head.metrics,
        normalize=head.normalize,
        scores=head.outputs,
        labels=head.labels,
        sizes=sizes.describe(),
        huggingface=huggingface.config_json(sizes, config.tie_embeddings, head),
        adapter=huggingface.adapter_for(head),
        pipeline_tag=head.pipeline_tag,
    )
