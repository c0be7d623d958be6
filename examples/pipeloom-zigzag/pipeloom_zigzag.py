"""zigzag: the pipeline goes out over the nodes and comes back, so its first and its last stage lie on node 0.

What they share, such as a tied word embedding, then need not cross nodes.
"""

import pipeloom
from pipeloom.core.contract.placement import Placement


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("zigzag_out", int, None, minimum=0, resume="free", help="devices of each node on the way out [half]")


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    devices, tensor = cluster.devices_per_node, mesh.tensor
    out = devices // 2 // tensor * tensor if config.zigzag_out is None else min(config.zigzag_out, devices)
    nodes = [range(node * devices, (node + 1) * devices) for node in range(cluster.nodes)]
    ranks = [rank for node in nodes for rank in node[:out]] + [rank for node in nodes[::-1] for rank in node[out:]]
    width = mesh.data * tensor  # ranks that hold a stage
    return Placement.of(cluster, [ranks[first : first + width] for first in range(0, len(ranks), width)])
