"""Models that are made like BERT: a post-LN encoder with transformers' names for its parts, and any task's head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict

from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.tasks import Encoder, Task
from pipeloom.plugins.models.transformer import bert_folder
from pipeloom.plugins.models.transformer.sizes import Sizes, agree, sizes_from
from pipeloom.plugins.models.transformer.transformer_blocks import (
    bert_embedding_names,
    bert_layer_names,
    embeddings,
    layer,
)


@dataclass(frozen=True)
class BertFamily:
    """What tells one of these models from the others.

    ``name``: the ``model_type`` in config.json, which the names of its parameters begin with; ``classes``: what the
    names of transformers' classes begin with. ``norm_eps``, ``segments`` and ``padding``: as of ``Sizes``, where no
    folder says otherwise. ``count_tokens``: positions are counted behind the row of the padding (``Sizes``).
    """

    name: str
    classes: str
    norm_eps: float = 1e-12
    segments: int = 2
    padding: int = 0
    count_tokens: bool = False

    @property
    def word_table(self) -> str:
        """The name of the word embedding, ``(vocab, hidden)``."""
        return bert_embedding_names(self.name).word

    def build(self, config: Any, task: Task) -> ModelSpec:
        """State the model for ``task``; with ``--init_from`` of the folder's sizes, and with its weights."""
        usual = dict(norm_eps=self.norm_eps, segments=self.segments, padding=self.padding)
        if config.init_from is None:
            return self._model(config, task, self._sizes(config, usual))
        from pipeloom.plugins.libraries.huggingface.source import open_pretrained
        from pipeloom.plugins.libraries.huggingface.weights import Weights, differing, untied_notes

        folder = open_pretrained(config.init_from)
        settings = bert_folder.settings_of(folder, self.name)
        agreed = agree(config, settings, folder.path)
        fixed = bert_folder.fixed_sizes(folder, usual)
        if self.count_tokens and fixed["padding"] is None:
            raise folder.error("'pad_token_id' in config.json is null: positions are counted from it on")
        sizes = self._sizes(agreed, fixed)
        model = self._model(agreed, task, sizes)
        different = differing(folder, model.adapter)
        if self.word_table in different.values():
            settings["tie_embeddings"] = False
            model = self._model(agree(config, settings, folder.path), task, sizes)
        notes = bert_folder.dropout_notes(folder, config) + untied_notes(different, model)
        return replace(model, weights=Weights(folder, model, notes), settings=settings)

    def _sizes(self, config: Any, fixed: Dict[str, Any]) -> Sizes:
        first = fixed["padding"] + 1 if self.count_tokens else 0
        return sizes_from(config, **fixed, first_position=first, count_tokens=self.count_tokens)

    def _model(self, config: Any, task: Task, sizes: Sizes) -> ModelSpec:
        encoder = Encoder(
            family=self.name,
            hidden=sizes.hidden,
            vocab=sizes.vocab,
            seq_length=sizes.seq_length,
            norm_eps=sizes.norm_eps,
            prefix=self.name,
            word_table=self.word_table,
            tied=config.tie_embeddings,
            padding=sizes.padding,
            activation=sizes.activation,
        )
        head = task.head(config, encoder)
        return ModelSpec(
            name=self.name,
            task=task.name,
            blocks=(
                embeddings(sizes, bert_embedding_names(self.name), head),
                *(layer(sizes, bert_layer_names(self.name, number), number) for number in range(sizes.layers)),
                head.block,
            ),
            losses=head.losses,
            metrics=head.metrics,
            normalize=head.normalize,
            scores=head.outputs,
            labels=head.labels,
            sizes=sizes.describe(),
            huggingface=bert_folder.config_json(self.name, self.classes, sizes, config.tie_embeddings, head),
            adapter=bert_folder.adapter_for(self.name, head),
            pipeline_tag=head.pipeline_tag,
        )
