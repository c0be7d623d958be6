"""data_parallel: one stage that every device holds (times tensor parallelism): the layout to compare others with."""

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.topology import mesh_from_splits
from pipeloom.plugins.libraries.placement_search import contiguous


@pipeloom.hookimpl
def pipeloom_choose_layout(cluster, config):
    if config.nums_split not in (None, 1):
        raise UsageError(
            f"--nums_split {config.nums_split}: data_parallel has one stage; choose another strategy, or leave it out"
        )
    return mesh_from_splits(cluster, 1, config.tensor_parallel)


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    return contiguous(cluster, mesh)
