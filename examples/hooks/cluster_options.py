"""Open MPI as a batch system: ``mpirun --map-by ppr:1:node`` starts a launcher on each node (give --master_addr)."""

import pipeloom
from pipeloom.core.contract.cluster_options import ClusterOptions


@pipeloom.hookimpl
def pipeloom_cluster_options(environment, given):
    nodes = int(environment.get("OMPI_COMM_WORLD_SIZE", 1))
    if nodes == 1 or given.get("nnodes") == 1:
        return None
    return ClusterOptions("Open MPI", {"nnodes": nodes, "node_rank": int(environment["OMPI_COMM_WORLD_RANK"])})
