"""The search over the layouts of a run: what stays as the user gave it, and what fits."""

from __future__ import annotations

from typing import Any, Callable, Sequence, Tuple

from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.layout_choice import MemoryOf
from pipeloom.core.contract.micro_batch import AUTO
from pipeloom.core.contract.topology import Cluster
from pipeloom.core.planning.cost.search import LayoutCandidate, Search
from pipeloom.core.planning.machines import Known, known_machines

#: Options of a layout that a search leaves as the user gave them.
OPEN = ("nums_split", "tensor_parallel", "grad_acc_steps", "recompute", "shard", "tied_transfer", "micro_batch")


def search_of(config: Any, cluster: Cluster, model: ModelSpec, fixed: Sequence[str] = OPEN) -> Tuple[Search, Known]:
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
