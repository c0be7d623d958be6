"""inter_first: the pipeline runs between nodes, data parallelism inside them.

Each data-parallel group lies on as few nodes as possible, so gradients, which are large, stay on the fast
links; among those placements the one that crosses nodes with the fewest pipeline hops, since hidden
states are what is left to cross the slow ones.
"""
import pipeloom
from pipeloom.core.placement import crossings, search, span


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    return search(cluster, mesh, lambda last, counts: (span(counts), crossings(last, counts) if last else 0))
