"""A distribution for ``ParameterSpec(..., init="uniform")``; and, so that it is used, all of a model by it."""

from dataclasses import replace

import numpy as np

import pipeloom


@pipeloom.hookimpl
def pipeloom_initial_distributions(config):
    # The generator is the parameter's own: draw from it alone.
    return {"uniform": lambda generator, spec: generator.uniform(-0.1, 0.1, spec.shape).astype(np.float32)}


@pipeloom.hookimpl(hookwrapper=True)
def pipeloom_build_model(config, task):
    outcome = yield
    model = outcome.get_result()
    blocks = [
        replace(block, parameters=tuple(replace(spec, init="uniform") for spec in block.parameters))
        for block in model.blocks
    ]
    outcome.force_result(replace(model, blocks=tuple(blocks)))
