"""by_time: partitioner whose slowest stage is as quick as can be, by the machines of ``--cluster``.

Where ``profile`` has measured the blocks, by these times; else by the cost model, which knows what FLOPs alone do not:
what memory moves, and what the host takes at the least. Exact, as the other partitioners.
"""

import pipeloom
from pipeloom.plugins.libraries.layout_search import block_times
from pipeloom.plugins.libraries.min_max_split import min_max_split


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages, config):
    return min_max_split(block_times(blocks, num_stages, config), num_stages)
