"""Rows of published tables as layouts that the cost model takes."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from accuracy.clusters import machines_named, shaped
from accuracy.models import model_of
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.planning.cost.geometry import INTER_FIRST, Geometry
from pipeloom.core.planning.cost.hardware import Machines
from pipeloom.core.planning.cost.step import LayoutShape, StepModel
from pipeloom.plugins.libraries.placement_search import contiguous

NEEDED = ("layers", "hidden", "heads", "seq_length", "vocab", "micro_batch", "global_batch", "tensor", "data",
          "pipeline", "step_s")  # fmt: skip
#: DeepSpeed counts three blocks before the layers (input, embedding, a change of axes) and three after them.
_BEFORE = 3


@dataclass(frozen=True)
class Row:
    """A measured step: what a table says of it, and what reckons it."""

    said: Mapping[str, str]
    model: StepModel
    layout: LayoutShape
    seconds: float

    def predict(self, machines: Machines) -> float:
        """Return the seconds of a step with the constants of ``machines``."""
        here = self.model.machines
        there = shaped(machines, here.nodes, here.devices_per_node)
        model = self.model
        again = StepModel(
            there, model.model, model.samples, model.seq_length, model.half_precision, model.gradient_bytes
        )
        return again.cost(self.layout).step

    def name(self) -> str:
        """Return what tells it apart in a list."""
        said = self.said
        return (
            f"{said['layers']} x {said['hidden']}, micro-batch {said['micro_batch']} of {said['global_batch']}, tensor "
            f"{said['tensor']} x data {said['data']} x pipeline {said['pipeline']}"
        )

    def job(self) -> Tuple[str, ...]:
        """Return what rows have in common whose layouts compete with each other."""
        return tuple(
            self.said.get(name, "") for name in ("system", "layers", "hidden", "global_batch", "recompute")
        ) + (str(self.model.machines.cluster.size),)


def read_rows(path: str) -> Tuple[List[Row], List[str]]:
    """Return the rows of a table that ran, and notes. Raises ``UsageError`` for a table that lacks columns."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            said = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    missing = [name for name in NEEDED if not said or name not in said[0]]
    if missing:
        raise UsageError(f"{path}: a table of steps needs the columns {', '.join(missing)}")
    notes: Dict[str, None] = {}
    rows = []
    for one in said:
        if one.get("failed", "0") in ("0", "", "False", "false") and one["step_s"] not in ("", "nan"):
            row, note = _row(one)
            rows.append(row)
            if note:
                notes[note] = None
    return rows, list(notes)


def _row(said: Mapping[str, str]) -> Tuple[Row, str]:
    mesh = Mesh(int(said["pipeline"]), int(said["data"]), int(said["tensor"]))
    devices = _devices_per_node(said, mesh.size)
    nodes = max(1, mesh.size // devices)
    machines, note = machines_named(said.get("device", ""), nodes, min(devices, mesh.size))
    half = not said.get("precision", "fp16").startswith("fp32")
    family = "bert" if "bert" in said.get("model", "").lower() else "gpt2"
    sizes = [int(said[name]) for name in ("layers", "hidden", "heads", "seq_length", "vocab")]
    gradients = 4 if not half or "fp32" in said.get("precision", "") else 2
    model = StepModel(
        machines, model_of(family, *sizes), int(said["global_batch"]), int(said["seq_length"]), half, gradients
    )
    layout = LayoutShape(
        mesh.pipeline,
        mesh.data,
        mesh.tensor,
        _split(said, mesh.pipeline),
        _geometry(machines, mesh),
        max(1, int(said["global_batch"]) // (int(said["micro_batch"]) * mesh.data)),
        (),
        "none",
        True,
    )
    if said.get("recompute", "none") == "full":
        layers = [count - (stage == 0) - (stage == mesh.pipeline - 1) for stage, count in enumerate(layout.split)]
        layout = LayoutShape(**{**vars(layout), "recomputed": tuple(layers)})
    return Row(said, model, layout, float(said["step_s"])), note


def _devices_per_node(said: Mapping[str, str], size: int) -> int:
    if said.get("gpus_per_node"):
        return int(said["gpus_per_node"])
    stated = re.search(r"(\d+) a node", said.get("device", ""))
    if stated:
        return int(stated.group(1))
    return max(1, size // int(said["nodes"])) if said.get("nodes") else min(8, size)


def _geometry(machines: Machines, mesh: Mesh) -> Geometry:
    """Ranks in order: tensor groups of neighbours, stages of contiguous ranks (Megatron-LM)."""
    counted = Geometry.regular(machines.cluster, mesh, INTER_FIRST)
    return counted or Geometry.of(contiguous(Cluster(machines.nodes, machines.devices_per_node), mesh), mesh.tensor)


def _split(said: Mapping[str, str], stages: int) -> Tuple[int, ...]:
    """Layers evenly over stages, the first with the embeddings, the last with the head; or as the table says."""
    layers = int(said["layers"])
    counts = _stated(said.get("partition_of_30_layers", ""), layers, stages) or [
        layers // stages + (stage < layers % stages) for stage in range(stages)
    ]
    counts[0] += 1
    counts[-1] += 1
    return tuple(counts)


def _stated(text: str, layers: int, stages: int) -> Optional[List[int]]:
    cuts = [int(word) for word in re.findall(r"\d+", text or "")]
    if len(cuts) != stages + 1 or stages == 1:
        return None
    first, last = _BEFORE, _BEFORE + layers
    counts = [max(0, min(end, last) - max(start, first)) for start, end in zip(cuts, cuts[1:])]
    return counts if sum(counts) == layers else None


def named(folder: str, name: str) -> str:
    """Return the path of a table in ``folder``. Raises ``UsageError`` where it is not there."""
    path = Path(folder) / name
    if not path.exists():
        raise UsageError(f"{path}: there is no such table")
    return str(path)
