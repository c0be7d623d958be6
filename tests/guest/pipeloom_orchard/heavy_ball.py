"""heavy_ball: gradient descent with Polyak's momentum, an optimizer of its own formula with an option of its own."""

import pipeloom
from pipeloom.core.contract.optimizer import StepOptimizer


class HeavyBall(StepOptimizer):
    """``b = momentum b + g``, ``w = w - a b`` (Polyak 1964)."""

    states = ("ball",)

    def __init__(self, momentum):
        self.momentum = momentum

    def update(self, parts, number, rate, arrays):
        for part in parts:
            if part is not None:
                arrays.assign(part.state["ball"], part.state["ball"] * self.momentum + part.gradient)
                arrays.assign(part.weight, part.weight - part.state["ball"] * rate)


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("momentum", float, 0.9, section="optimization", minimum=0, maximum=0.999, help="of the heavy ball")


@pipeloom.hookimpl
def pipeloom_build_optimizer(config, parameters):
    return HeavyBall(config.momentum)
