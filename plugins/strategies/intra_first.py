"""intra_first: the pipeline runs inside nodes, data parallelism between them.

As many pipeline hops as the shape allows stay inside a node; among those placements the one whose
data-parallel groups lie on the fewest nodes. Both hold exactly in every shape up to 4 nodes x 4 devices, and in
every shape where a node holds whole pipelines or a pipeline fills whole nodes. In larger ones that do not
divide (5 nodes x 8 devices in 10 stages) each pipeline takes neighbouring ranks: the fewest hops there can be cross
nodes, of the groups it is not known.

Tensor groups stay inside a node where their size divides its devices, and are placed as one device each.
With one rank per stage (4 stages on 2 x 2) both strategies give the same placement, ranks in order.
"""

import pipeloom
from pipeloom.plugins.libraries.placement_search import (
    by_tensor_groups,
    crossings,
    lane_by_lane,
    search,
    side_by_side,
    span,
)


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    return by_tensor_groups(cluster, mesh, _place)


def _place(cluster, mesh):
    stages, devices = mesh.pipeline, cluster.devices_per_node
    if devices % stages == 0 or stages % devices == 0:
        # Best: no hop crosses where all stages fit side by side into a node. With k times as many stages
        # each lane of the pipeline needs k nodes, so it crosses k - 1 times at the least, and here does.
        return side_by_side(cluster, mesh)
    found = search(cluster, mesh, lambda last, counts: (crossings(last, counts) if last else 0, span(counts)))
    return found or lane_by_lane(cluster, mesh)
