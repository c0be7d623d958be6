"""A head of the task of ``tasks.py`` for the model of ``build_model.py``: it counts the error, and not its square."""

import pipeloom
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import Linear, dense
from pipeloom.core.contract.tasks import Head, HeadFor


def head(config, encoder):
    def build(scope):
        out, ops = Linear(scope, "sums.out"), scope.ops

        def call(hidden_BLH, fields):
            error_B1 = out(hidden_BLH.sum(1)) - fields["total"]
            size_B1 = ops.activation("relu", error_B1) + ops.activation("relu", error_B1 * -1.0)
            return {"absolute_loss": (size_B1 * fields[SAMPLE_WEIGHT]).sum()}

        return call

    cost = Cost(flops=0.0, output_bytes=0.0, kept_bytes=4.0 * encoder.hidden, flops_per_sample=2.0 * encoder.hidden)
    block = Block("sums", dense("sums.out", 1, encoder.hidden), cost, ("total", SAMPLE_WEIGHT), build)
    return Head(block, losses={"absolute_loss": 1.0}, labels=(Field("total", (1,), "float32"),))


@pipeloom.hookimpl
def pipeloom_heads(config):
    return [HeadFor("sums", "bag", head)]
