"""A strategy in one file: python entry.py --plugins ./examples/my_strategy.py,bert,wiki_ofrecord

It lays the pipeline from the last ranks to the first, so that the last stage, which has the vocabulary head,
is on node 0; ``--head_on_node_0 false`` turns it round. Everything else comes from the core: the mesh, the partition,
and the check of what the engine will make of the placement.
"""

import pipeloom
from pipeloom.core.contract.placement import Placement


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("head_on_node_0", bool, True, resume="free", help="lay the pipeline from the last node to the first")


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, model, config):
    width = mesh.data * mesh.tensor  # ranks that hold a stage
    stages = [range(stage * width, (stage + 1) * width) for stage in range(mesh.pipeline)]
    if config.head_on_node_0:
        stages.reverse()
    return Placement.of(cluster, stages)
