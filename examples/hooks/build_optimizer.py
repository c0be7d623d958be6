"""Gradient descent with momentum, which the engine computes; ``StepOptimizer`` is for one that it does not have."""

import pipeloom
from pipeloom.core.contract.optimizer import OptimizerSpec


@pipeloom.hookimpl
def pipeloom_build_optimizer(config, parameters):
    return OptimizerSpec("sgd", settings={"momentum": 0.5})
