"""The model: traits are looked up, mixed by rings of dense layers, and a head reads them. It names no engine."""

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import DROPOUT_SEEDS, Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.layers import LayerNorm, Linear, dense, layer_norm
from pipeloom.core.contract.tasks import Encoder


def build(config, task):
    if config.seq_length < 1:
        raise UsageError("--seq_length must be at least 1")
    h, vocab = config.trait_size, config.vocab_size
    head = task.head(
        config,
        Encoder(
            family="orchard",
            hidden=h,
            vocab=vocab,
            seq_length=config.seq_length,
            norm_eps=1e-5,
            prefix="orchard",
            word_table="orchard.traits.weight",
            tied=False,
        ),
    )
    blocks = (_traits(h, vocab), *(_ring(h, number) for number in range(config.rings)), head.block)
    return ModelSpec(
        "orchard",
        task.name,
        blocks,
        head.losses,
        metrics=head.metrics,
        scores=head.outputs,
        labels=head.labels,
        sizes={"vocab": vocab, "hidden": h},
    )


def _traits(h, vocab):
    def build(scope):
        table, ops = scope.parameter("orchard.traits.weight"), scope.ops
        return lambda hidden, fields: ops.lookup(table, fields["traits"])

    table = ParameterSpec("orchard.traits.weight", (vocab, h), std=0.5, tensor_dim=0, products=0, lookups=1)
    return Block("traits", (table,), _cost(0.0, 4.0 * h, 0.0), ("traits",), build)


def _cost(flops, output_bytes, kept_bytes):
    """The cost of a block by what it is for one trait: a sample has four, whatever --seq_length says."""
    return Cost(
        flops=0.0,
        output_bytes=0.0,
        kept_bytes=0.0,
        flops_per_sample=4 * flops,
        output_bytes_per_sample=4 * output_bytes,
        kept_bytes_per_sample=4 * kept_bytes,
    )


def _ring(h, number):
    name = f"orchard.ring.{number}"

    class Ring:
        def __init__(self, scope):
            self.ops = scope.ops
            self.mix, self.norm = Linear(scope, f"{name}.mix"), LayerNorm(scope, f"{name}.norm", 1e-5)
            self.dropout = scope.dropout(name, 0.1, (4, h))

        def __call__(self, hidden_BLH, fields):
            B, L, H = hidden_BLH.shape
            x_NH = hidden_BLH.reshape(B * L, H)
            y_BLH = self.ops.tanh(self.mix(x_NH)).reshape(B, L, H)
            y_NH = self.dropout(y_BLH, fields[DROPOUT_SEEDS]).reshape(B * L, H)
            return self.norm(x_NH + y_NH).reshape(B, L, H)

    parameters = (*dense(f"{name}.mix", h, h), *layer_norm(f"{name}.norm", h))
    return Block(
        f"ring.{number}", parameters, _cost(2.0 * h * h, 4.0 * h, 16.0 * h), (DROPOUT_SEEDS,), Ring, layer=True
    )
