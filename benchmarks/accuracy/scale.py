"""How long a search takes on large clusters, and the efficiency that it predicts as a cluster grows."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Dict, List

from accuracy.clusters import H100, NVSWITCH_4
from accuracy.models import model_of
from pipeloom.core.contract.blocks import BatchSize
from pipeloom.core.planning.cost.fit import default_calibration
from pipeloom.core.planning.cost.machine import Machines, Network
from pipeloom.core.planning.cost.search import Search
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
        found = Search(machines, model, devices * SAMPLES, MODEL[3], True).best(1)
        seconds = time.monotonic() - began
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
