"""How long a search takes on large clusters, and the efficiency that it predicts as a cluster grows."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Dict, List

from accuracy.clusters import H100, NVSWITCH_4
from accuracy.models import model_of
from pipeloom.core.contract.blocks import BatchSize
from pipeloom.core.planning.cost.fit import default_calibration
from pipeloom.core.planning.cost.hardware import Machines, Network
from pipeloom.core.planning.cost.search import LayoutCandidate, Search
from pipeloom.core.planning.ranking import describe_candidate

#: GPT of 39 G parameters: layers, hidden, heads, sequence, words (Narayanan et al. 2021, table 1).
MODEL = (48, 8192, 64, 2048, 51200)
#: Nodes of eight H100, and samples of a step for each device.
NODES, SAMPLES = (1, 8, 32, 128, 512, 2048, 12500), 2


def grow() -> List[Dict[str, Any]]:
    """Return for each size of the cluster the best layout, seconds of the search and the predicted efficiency."""
    model = model_of("gpt2", *MODEL)
    rows: List[Dict[str, Any]] = []
    calibration = replace(default_calibration(), overlap=0.5)
    for nodes in NODES:
        machines = Machines("H100", nodes, 8, H100, NVSWITCH_4, Network(400e9, 1e-5), calibration=calibration)
        devices = machines.cluster.size
        began = time.monotonic()
        search = Search(machines, model, devices * SAMPLES, MODEL[3], True)
        found = search.best(1, lambda one: _fits(search, one))  # noqa: B023
        seconds = time.monotonic() - began
        if not found.best:
            rows.append({"devices": devices, "candidates": found.candidates, "seconds": seconds})
            continue
        best = found.best[0]
        flops = model.flops(BatchSize.of(1, MODEL[3]))
        mfu = devices * SAMPLES * flops / best.seconds / (devices * H100.peak_of(True))
        rows.append(
            {
                "devices": devices,
                "candidates": found.candidates,
                "seconds": seconds,
                "step": best.seconds,
                "mfu": mfu,
                "layout": describe_candidate(best),
            }
        )
    return rows


def _fits(search: Search, candidate: LayoutCandidate) -> bool:
    """Whether parameters, gradients and two moments in float32, and what layers keep in half, fit into a device."""
    layout, blocks = candidate.layout, search.model.blocks
    micro = BatchSize.of(search.samples / (layout.data * layout.micro_batches), MODEL[3])
    start = 0
    for stage, count in enumerate(layout.split):
        mine = blocks[start : start + count]
        start += count
        size = sum(block.size for block in mine) / layout.tensor
        spread = layout.data if layout.shard in ("optimizer", "parameters") else 1
        held = 8 * size / (layout.data if layout.shard == "parameters" else 1) + 8 * size / spread
        kept = sum(block.cost.of(micro).kept_bytes for block in mine) / 2 / layout.tensor
        if layout.recomputed:
            kept = sum(block.cost.of(micro).output_bytes for block in mine) / 2
        if held + min(layout.micro_batches, layout.pipeline - stage) * kept > 0.94 * search.machines.device.memory:
            return False
    return True
