"""What the strategies that reckon with time share: a run's cost model, and its search."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

from pipeloom.core.base.devices import resolve_device
from pipeloom.core.contract.blocks import BatchSize, Block, ModelSpec
from pipeloom.core.contract.layout_choice import MemoryOf
from pipeloom.core.contract.micro_batch import AUTO
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.planning.cost.compute import block_seconds
from pipeloom.core.planning.cost.geometry import INTRA_FIRST, GroupShape
from pipeloom.core.planning.cost.search import LayoutCandidate, Search
from pipeloom.core.planning.machines import Known, known_machines
from pipeloom.plugins.libraries.placement_search import by_tensor_groups, contiguous, side_by_side

#: Options of a layout that a search leaves as the user gave them.
OPEN = ("nums_split", "tensor_parallel", "grad_acc_steps", "recompute", "shard", "tied_transfer", "micro_batch")


def search_of(config: Any, cluster: Cluster, model: ModelSpec, fixed: Sequence[str] = OPEN) -> "tuple[Search, Known]":
    """Return the search over the layouts of a run, and the machines that it reckons with.

    ``fixed``: the options that stay where the user gave them.
    """
    known = known_machines(config, cluster)
    kept = {name: getattr(config, name) for name in fixed if name in config.given and getattr(config, name) is not None}
    if kept.get("tied_transfer") == "auto":
        del kept["tied_transfer"]
    if kept.get("micro_batch") == AUTO:
        del kept["micro_batch"]
    half = config.precision == "amp"
    batch, length = config.train_global_batch_size, config.seq_length
    return Search(known.machines, model, batch, length, half, kept), known


def fits_in(room: float, memory: MemoryOf) -> Callable[[LayoutCandidate], bool]:
    """Return what says whether every rank of a layout fits into ``room`` bytes."""

    def fits(candidate: LayoutCandidate) -> bool:
        need = memory(candidate.mesh, candidate.layout.split, candidate.options)
        return max(one.total for one in need) <= room

    return fits


def placed(cluster: Cluster, mesh: Mesh, order: str) -> Placement:
    """Return the regular placement of ``mesh`` in an order of ``core/planning/cost/geometry.py``."""
    return by_tensor_groups(cluster, mesh, side_by_side) if order == INTRA_FIRST else contiguous(cluster, mesh)


def block_times(blocks: Sequence[Block], stages: int, config: Any) -> List[float]:
    """Return seconds of each block, forward and backward, for a micro-batch of a run in ``stages``."""
    device = resolve_device(config.device) if config.device == "auto" else config.device  # it may be elsewhere
    cluster = Cluster(config.nnodes, config.nproc_per_node, device, logical=config.node_rank is None)
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
