"""inter_first: the pipeline runs between nodes, data parallelism inside them.

Each data-parallel group lies on as few nodes as possible, so gradients, which are large, stay on the fast
links; among those placements the one that crosses nodes with the fewest pipeline hops, since hidden
states are what is left to cross the slow ones. Both hold exactly in every shape up to 4 nodes x 4 devices, and
in every shape where a group fills whole nodes or a node holds whole groups. In larger ones that do not
divide (6 nodes x 8 devices in 16 stages) ranks are taken in order: the groups still lie on the fewest nodes
there can be, of the hops it is not known.

Tensor groups stay inside a node where their size divides its devices, and are placed as one device each.
With one rank per stage (4 stages on 2 x 2) both strategies give the same placement, ranks in order.
"""

import pipeloom
from pipeloom.plugins.libraries.placement_search import by_tensor_groups, contiguous, crossings, search, span


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    return by_tensor_groups(cluster, mesh, _place)


def _place(cluster, mesh):
    width, devices = mesh.data * mesh.tensor, cluster.devices_per_node
    if width % devices == 0 or devices % width == 0:
        # Ranks in order are best: every group lies on the fewest nodes there can be. Where several stages
        # share a node, the pipeline enters each further node once, and it must; else every hop crosses.
        return contiguous(cluster, mesh)
    found = search(cluster, mesh, lambda last, counts: (span(counts), crossings(last, counts) if last else 0))
    return found or contiguous(cluster, mesh)
