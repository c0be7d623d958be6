"""A model of one table: what a token is worth, in whatever order; docs/models.md has one with layers."""

import pipeloom
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.layers import WordLookup
from pipeloom.core.contract.tasks import Encoder

WIDTH, TABLE = 16, "bag.words.weight"


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    class Words:
        def __init__(self, scope):
            self.word = WordLookup(scope, TABLE)

        def __call__(self, hidden, fields):
            return self.word(fields["input_ids"])  # (batch, tokens, WIDTH)

    spec = ParameterSpec(TABLE, (config.vocab_size, WIDTH), tensor_dim=0, products=0, lookups=1)
    words = Block("words", (spec,), Cost(0.0, 4.0 * WIDTH, 0.0), ("input_ids",), Words)
    head = task.head(
        config,
        Encoder(
            family="bag",
            hidden=WIDTH,
            vocab=config.vocab_size,
            seq_length=config.seq_length,
            norm_eps=1e-5,
            prefix="bag",
            word_table=TABLE,
            tied=False,
        ),
    )
    return ModelSpec("bag", task.name, (words, head.block), head.losses, labels=head.labels)
