"""What the strategies that reckon with time share: placements of an order, and the times of blocks."""

from __future__ import annotations

from typing import Any, List, Sequence

from pipeloom.core.base.devices import resolve_device
from pipeloom.core.contract.blocks import BatchSize, Block
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.planning.cost.compute import block_seconds
from pipeloom.core.planning.cost.geometry import INTRA_FIRST, GroupShape
from pipeloom.core.planning.machines import known_machines
from pipeloom.plugins.libraries.placement_search import by_tensor_groups, contiguous, side_by_side


def placed(cluster: Cluster, mesh: Mesh, order: str) -> Placement:
    """Return the regular placement of ``mesh`` in an order of ``core/planning/cost/geometry.py``."""
    return by_tensor_groups(cluster, mesh, side_by_side) if order == INTRA_FIRST else contiguous(cluster, mesh)


def block_times(blocks: Sequence[Block], stages: int, config: Any) -> List[float]:
    """Return seconds of each block, forward and backward, for a micro-batch of a run in ``stages``."""
    device = resolve_device(config.device) if config.device == "auto" else config.device  # it may be elsewhere
    cluster = Cluster(config.nnodes or 1, config.nproc_per_node or stages, device, logical=config.node_rank is None)
    data = max(1, cluster.size // (stages * config.tensor_parallel))
    micro = config.train_global_batch_size / (data * config.grad_acc_steps)
    seconds = block_seconds(
        blocks,
        known_machines(config, cluster).machines,
        BatchSize.of(micro, config.seq_length),
        GroupShape(config.tensor_parallel),
        config.precision == "amp",
    )
    return [one.forward + one.backward for one in seconds]
