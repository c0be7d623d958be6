"""The cluster of a run: what its options say, and what this machine has."""

from __future__ import annotations

from typing import Optional

from pipeloom.core.base.devices import check_gpus, count_gpus, resolve_device
from pipeloom.core.base.errors import UsageError
from pipeloom.core.config.config import Config
from pipeloom.core.contract.topology import Cluster


def resolve_cluster(config: Config, world_size: Optional[int] = None, local_rank_differs: bool = False) -> Cluster:
    """The cluster by the options, the GPUs there are, and the world that another launcher has started."""
    device = resolve_device(config.device)
    gpus = count_gpus() if device == "cuda" else 0
    nodes, per_node = config.nnodes, config.nproc_per_node
    if world_size is not None:
        if nodes is None and per_node is None and local_rank_differs:
            raise UsageError(
                "several nodes were launched: say how many with --nnodes, or how many ranks each has with "
                "--nproc_per_node"
            )
        nodes = nodes or (max(1, world_size // per_node) if per_node else 1)
        per_node = per_node or max(1, world_size // nodes)
        if nodes * per_node != world_size:
            raise UsageError(
                f"--nnodes {nodes} x --nproc_per_node {per_node} is {nodes * per_node}, but {world_size} ranks were "
                f"launched"
            )
    elif device == "cuda":
        nodes, per_node = nodes or 1, per_node or gpus
    else:
        nodes, per_node = nodes or 2, per_node or 2
    logical = config.node_rank is None
    if config.node_rank is not None and config.node_rank >= nodes:
        raise UsageError(f"--node_rank {config.node_rank}: nodes are numbered 0 to {nodes - 1} (--nnodes {nodes})")
    here = nodes * per_node if logical and world_size is None else per_node
    if device == "cuda":
        check_gpus(here)
    if device == "cuda" and here > gpus:
        raise UsageError(
            f"{here} ranks on this machine need {here} GPUs, it has {gpus}: lower --nproc_per_node, or use --device cpu"
        )
    return Cluster(nodes, per_node, device, logical)
