"""by_parameters: the default partitioner; the default layout from ``--nums_split`` comes with it."""

import pipeloom
from pipeloom.core.contract.topology import mesh_from_splits
from pipeloom.plugins.libraries.min_max_split import min_max_split


@pipeloom.hookimpl(trylast=True)
def pipeloom_partition(blocks, num_stages, config):
    return min_max_split([block.size for block in blocks], num_stages)


@pipeloom.hookimpl(trylast=True)
def pipeloom_choose_layout(cluster, config):
    splits = config.nums_split
    if splits is None:
        splits = 2 if cluster.size % (2 * config.tensor_parallel) == 0 else 1
    return mesh_from_splits(cluster, splits, config.tensor_parallel)
