"""The original project's six rows: intra_first and inter_first on Tesla M40, with one constant.

The table says no batch, accumulation or network. By the launch scripts: 32 samples on 2 x 2, 24 on 3 x 3, one
micro-batch, the decoder over all 128 positions and untied, as many stages as a node has devices. The batch of 4 x 4 is
in no script: 24 is taken, as for the other large one. The machines are the data sheet's with the usual constants of
GPUs; the one constant is the bandwidth between nodes, fitted to the three ratios.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Sequence, Tuple

from accuracy.clusters import M40, PCIE
from accuracy.models import model_of
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.planning.cost.fit import default_calibration
from pipeloom.core.planning.cost.geometry import INTER_FIRST, INTRA_FIRST, Geometry
from pipeloom.core.planning.cost.hardware import Machines, Network
from pipeloom.core.planning.cost.step import LayoutShape, StepModel

_VOCAB = 30522
#: Nodes -> samples of a step by the scripts.
BATCHES = {2: 32, 3: 24, 4: 24}
#: Bandwidths between nodes among which the one constant is looked for, bytes a second.
_RATES = [10 ** (8 + number / 50) for number in range(101)]


@dataclass(frozen=True)
class Pair:
    """Two rows that differ in the strategy alone."""

    nodes: int
    devices: int
    layers: int
    hidden: int
    heads: int
    seq_length: int
    intra: float
    inter: float

    @property
    def ratio(self) -> float:
        return self.intra / self.inter


def read_pairs(path: str) -> List[Pair]:
    """Return the pairs of ``seed_placements.csv``."""
    found: Dict[Tuple[int, ...], Dict[str, float]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = tuple(
                int(row[name]) for name in ("nodes", "gpus_per_node", "layers", "hidden", "heads", "seq_length")
            )
            found.setdefault(key, {})[row["strategy"]] = float(row["step_s"])
    return [Pair(*key, both["intra_first"], both["inter_first"]) for key, both in found.items()]


def predict(pair: Pair, rate: float, batch: int, micro_batches: int = 1, masked: int = 0) -> Tuple[float, float]:
    """Return seconds of intra_first and of inter_first, with ``rate`` bytes a second between nodes.

    ``masked``: positions that the decoder looks at, 0 for all of them.
    """
    machines = Machines(
        "M40", pair.nodes, pair.devices, M40, PCIE, Network(rate, 2e-5),
        calibration=replace(default_calibration(), between=1.0),
    )  # fmt: skip
    model = model_of("bert", pair.layers, pair.hidden, pair.heads, pair.seq_length, _VOCAB, False)
    if masked:
        head = model.blocks[-1]
        share = masked / pair.seq_length
        cost = replace(head.cost, flops_per_sample=head.cost.flops_per_sample * share)
        model = replace(model, blocks=(*model.blocks[:-1], replace(head, cost=cost)))
    stages, data = pair.devices, pair.nodes
    counts = [pair.layers // stages + (stage < pair.layers % stages) for stage in range(stages)]
    counts[0] += 1
    counts[-1] += 1
    cluster, mesh = Cluster(pair.nodes, pair.devices), Mesh(stages, data)
    seconds = []
    for order in (INTRA_FIRST, INTER_FIRST):
        geometry = Geometry.regular(cluster, mesh, order)
        assert geometry is not None
        layout = LayoutShape(stages, data, 1, tuple(counts), geometry, micro_batches, (), "none", True)
        seconds.append(StepModel(machines, model, batch, pair.seq_length).cost(layout).step)
    return seconds[0], seconds[1]


def fit_rate(pairs: Sequence[Pair], **others: Any) -> float:
    """Return the bandwidth between nodes whose ratios are nearest, by the sum of squared logarithms."""

    def off(rate: float) -> float:
        total = 0.0
        for pair in pairs:
            intra, inter = predict(pair, rate, BATCHES[pair.nodes], **others)
            total += math.log(intra / inter / pair.ratio) ** 2
        return total

    return min(_RATES, key=off)


def sensitivity(pairs: Sequence[Pair], rate: float) -> List[Dict[str, Any]]:
    """Return the ratios for every plausible batch, accumulation and decoder, with the one constant as it is."""
    rows = []
    for batch in (12, 24, 32, 48, 64, 96):
        for micro_batches in (1, 2, 4):
            for masked in (0, 20):
                ratios = []
                for pair in pairs:
                    pieces = pair.nodes * micro_batches
                    whole = max(pieces, batch // pieces * pieces)
                    intra, inter = predict(pair, rate, whole, micro_batches, masked)
                    ratios.append(intra / inter)
                rows.append({"batch": batch, "micro_batches": micro_batches, "masked": masked, "ratios": ratios})
    return rows
