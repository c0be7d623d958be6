"""A plugin for tests of the kit: a model of one look-up over tensor groups, a layout, a partitioner and a schedule."""

import pipeloom
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.topology import Mesh, mesh_from_splits  # noqa: F401

VOCABULARY, WIDTH = 97, 16


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    length = config.seq_length

    def words(scope):
        table = scope.parameter("words")
        return lambda hidden, fields: scope.ops.lookup(table, fields["input_ids"])

    def total(scope):
        table = scope.parameter("scale")

        def call(hidden_BLH, fields):
            sums_BH = hidden_BLH.sum(1) * scope.ops.use(scope.parameter("scale")).reshape(1, WIDTH)
            return {"loss": (sums_BH.sum(1).reshape(-1, 1) * fields[SAMPLE_WEIGHT]).sum()}

        assert table.shape == (WIDTH,)
        return call

    blocks = (
        Block(
            "words",
            (ParameterSpec("words", (VOCABULARY, WIDTH), tensor_dim=0, products=0, lookups=1),),
            Cost(0.0, 4.0 * WIDTH, 0.0),
            ("input_ids",),
            words,
        ),
        Block(
            "total", (ParameterSpec("scale", (WIDTH,)),), Cost(0.0, 0.0, 4.0 * WIDTH / length), (SAMPLE_WEIGHT,), total
        ),
    )
    return ModelSpec("small", task.name, blocks, {"loss": 1.0})


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages, config):
    return [len(blocks) - num_stages + 1] + [1] * (num_stages - 1)


@pipeloom.hookimpl
def pipeloom_choose_layout(cluster, config):
    return mesh_from_splits(cluster, config.nums_split or 1, config.tensor_parallel)


class Rate:
    def at(self, step):
        return 0.1 / (1 + step)


@pipeloom.hookimpl
def pipeloom_lr_schedule(config):
    return Rate()
