"""A plugin: BERT without its encoder layers, for tests of runs to which the model does not matter.

Most of what a tiny run costs is the compilation of its graph, and most of the graph are the layers with their
gradients.
"""

from __future__ import annotations

import dataclasses

import pipeloom
from pipeloom.plugins.models import bert
from pipeloom.plugins.models.bert import pipeloom_add_options, pipeloom_heads  # noqa: F401


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    model = bert.pipeloom_build_model(config=config, task=task)
    return dataclasses.replace(model, name="no_layers", blocks=(model.blocks[0], model.blocks[-1]))
