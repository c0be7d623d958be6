"""The task: which fruit has these traits; ``predict`` says it of traits that it is given."""

import json

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import Linear, dense
from pipeloom.core.contract.tasks import Head, Predictions, Predictor, Task
from pipeloom_orchard.data import FRUIT as FRUITS
from pipeloom_orchard.data import TRAITS


def _head(config, encoder):
    h = encoder.hidden

    def build(scope):
        choose, ops = Linear(scope, "fruit"), scope.ops

        def call(hidden_BLH, fields):
            B, L, H = hidden_BLH.shape
            logits_BC = choose(ops.tanh(hidden_BLH.sum(1)))
            labels_B = fields["fruit"].reshape(B)
            weights_B = fields[SAMPLE_WEIGHT].reshape(B)
            results = {"fruit_loss": (ops.cross_entropy(logits_BC, labels_B) * weights_B).sum()}
            if not scope.training:
                hits_B = ops.to_float(ops.argmax(logits_BC) == labels_B)
                results.update(accuracy=(hits_B * weights_B).sum(), fruit_logits=logits_BC)
            return results

        return call

    cost = Cost(0.0, 0.0, 0.0, flops_per_sample=2.0 * h * len(FRUITS), kept_bytes_per_sample=8.0 * h)
    block = Block("fruit", dense("fruit", len(FRUITS), h), cost, ("fruit", SAMPLE_WEIGHT), build)
    return Head(
        block,
        losses={"fruit_loss": 1.0},
        metrics=("accuracy",),
        outputs={"fruit_logits": (len(FRUITS),)},
        labels=(Field("fruit", (1,), "int32", 0, len(FRUITS)),),
    )


def _add_arguments(parser):
    parser.add_argument("--traits", required=True, metavar="A,B,C,D", help=f"four of {', '.join(TRAITS)}")


def _predict(options, model):
    names = options.traits.split(",")
    if len(names) != 4 or not set(names) <= set(TRAITS):
        raise UsageError(f"--traits {options.traits}: give four of {', '.join(TRAITS)}")
    ids = np.array([[TRAITS.index(name) for name in names]], np.int32)
    logits = model.outputs({"traits": ids}, seq_length=4, high={"traits": len(TRAITS)})["fruit_logits"][0]
    best = FRUITS[int(logits.argmax())]
    return Predictions([json.dumps({"fruit": best, "logits": logits.tolist()})], [f"fruit: {best}"])


FRUIT = Task("fruit", _head, higher=("accuracy",), predict=Predictor(_add_arguments, _predict))
