"""Stages are dealt out from the last rank to the first."""

import pipeloom
from pipeloom.core.contract.placement import Placement


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh):
    width = mesh.data * mesh.tensor
    ranks = list(reversed(range(cluster.size)))
    return Placement.of(cluster, [ranks[stage * width : (stage + 1) * width] for stage in range(mesh.pipeline)])
