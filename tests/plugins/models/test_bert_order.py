"""The order in which BERT's blocks ask for their parameters, which is that in which their gradients' squares are added
up: with another one a run that is resumed by a newer version would differ in the last bits.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy_engine.ops import NumpyScope
from numpy_engine.tape import Tensor

from pipeloom.core.commands.cli import parse
from pipeloom.core.host.task_choice import find_task

pytestmark = pytest.mark.fast

DENSE = ("weight", "bias")


class RecordingScope(NumpyScope):
    def __init__(self, block):
        super().__init__({spec.name: Tensor(np.zeros(spec.shape)) for spec in block.parameters})
        self.asked = []

    def parameter(self, name):
        self.asked.append(name)
        return super().parameter(name)


def order(block):
    scope = RecordingScope(block)
    block.build(scope)
    return list(dict.fromkeys(scope.asked))


def named(prefix, names):
    return [f"{prefix}.{name}.{kind}" for name in names for kind in DENSE]


def test_parameters_are_asked_for_in_the_order_of_all_versions():
    flags = "--num_hidden_layers 1 --num_attention_heads 1 --hidden_size 8 --seq_length 8 --tie_embeddings false"
    config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *flags.split()])
    config = config.replace(vocab_size=40)
    model = plugins.hook.pipeloom_build_model(config=config, task=find_task(plugins, config, "pretraining"))
    embeddings, layer, head = map(order, model.blocks)
    tables = [f"bert.embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
    assert embeddings == [*tables, *named("bert.embeddings", ["LayerNorm"])]
    parts = [f"attention.self.{part}" for part in ("query", "key", "value")] + ["attention.output.dense"]
    parts += ["attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
    assert layer == named("bert.encoder.layer.0", parts)
    assert head == [
        *named("bert.pooler", ["dense"]),
        *named("cls.predictions.transform", ["dense", "LayerNorm"]),
        "cls.predictions.decoder.weight",
        "cls.predictions.bias",
        *named("cls", ["seq_relationship"]),
    ]
