"""by_flops: partitioner that gives every stage as near as can be the same work, forward and backward.

Blocks weigh what they compute for a sample of this sequence length: an embedding next to nothing, the vocabulary
head what its product with the masked positions really costs. Exact min-max, like the default ``by_parameters``.
"""

import pipeloom
from pipeloom.core.contract.blocks import BatchSize
from pipeloom.plugins.libraries.min_max_split import min_max_split


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages, config):
    sample = BatchSize.of(1, config.seq_length)
    return min_max_split([block.cost.of(sample).flops for block in blocks], num_stages)
