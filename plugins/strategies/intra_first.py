"""intra_first: the pipeline runs inside nodes, data parallelism between them.

As many pipeline hops as the shape allows stay inside a node; among those placements the one whose
data-parallel groups lie on the fewest nodes.
"""
import pipeloom
from pipeloom.core.placement import crossings, search, span


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    return search(cluster, mesh, lambda last, counts: (crossings(last, counts) if last else 0, span(counts)))
