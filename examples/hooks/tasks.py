"""A task: the sum of a sample's digits, by a head that stands on any model."""

import pipeloom
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import Linear, dense
from pipeloom.core.contract.tasks import Head, Task


def head(config, encoder):
    total = Field("total", (1,), "float32")

    def build(scope):
        out = Linear(scope, "sums.out")

        def call(hidden_BLH, fields):
            error_B1 = out(hidden_BLH.sum(1)) - fields["total"]
            # Sums over the samples here; SAMPLE_WEIGHT is the share of each in the whole global batch.
            return {"square_loss": (error_B1 * error_B1 * fields[SAMPLE_WEIGHT]).sum()}

        return call

    cost = Cost(flops=0.0, output_bytes=0.0, kept_bytes=4.0 * encoder.hidden, flops_per_sample=2.0 * encoder.hidden)
    block = Block("sums", dense("sums.out", 1, encoder.hidden), cost, ("total", SAMPLE_WEIGHT), build)
    return Head(block, losses={"square_loss": 1.0}, labels=(total,))


@pipeloom.hookimpl
def pipeloom_tasks(config):
    return [Task("sums", head)]
