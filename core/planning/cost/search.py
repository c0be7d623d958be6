"""The layouts of a job on a cluster, and the quickest of them that fit.

Every mesh of pipeline, data and tensor sizes, micro-batches, both orders of ranks, recomputation, sharding and forms of
a tied table; the split of each is the exact one by time (``core/planning/cost/splits.py``). A bound that no step is
quicker than orders the candidates, and they are played through in that order until no bound is below what was found: so
the best are exact by the model.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.topology import Mesh
from pipeloom.core.planning.cost.geometry import INTER_FIRST, INTRA_FIRST, Geometry
from pipeloom.core.planning.cost.hardware import Machines
from pipeloom.core.planning.cost.splits import quickest_split
from pipeloom.core.planning.cost.step import LayoutShape, StepCost, StepModel

#: More micro-batches than so many for each stage bring next to nothing and take time to play through.
_MOST_PER_STAGE = 32


@dataclass(frozen=True)
class LayoutCandidate:
    """State a layout with the order of ranks, the options that make it, its cost, and (once played through) the seconds
    of a step."""

    layout: LayoutShape
    order: str
    options: Mapping[str, Any]
    cost: StepCost
    seconds: float = 0.0

    @property
    def mesh(self) -> Mesh:
        return Mesh(self.layout.pipeline, self.layout.data, self.layout.tensor)


#: Says whether a layout fits into the devices' memory.
Fits = Callable[[LayoutCandidate], bool]


@dataclass(frozen=True)
class Space:
    """State what may vary: a value of each of these options, where the user has given one, else all of them.

    ``fixed``: by option (``nums_split``, ``tensor_parallel``, ``grad_acc_steps``, ``recompute``, ``shard``,
    ``tied_transfer``, ``micro_batch``, ``order``).
    """

    fixed: Mapping[str, Any]

    def values(self, name: str, choices: Sequence[Any]) -> Sequence[Any]:
        return [self.fixed[name]] if name in self.fixed else choices


class Search:
    """Find the quickest layouts of ``model`` with ``samples`` a step on ``machines``."""

    def __init__(
        self,
        machines: Machines,
        model: ModelSpec,
        samples: int,
        seq_length: int,
        half_precision: bool = False,
        fixed: Mapping[str, Any] = {},
    ) -> None:
        self.machines, self.model, self.samples, self.space = machines, model, samples, Space(fixed)
        copied = tuple(block.borrow.copy if block.borrow is not None else block for block in model.blocks)
        self.borrows = any(block.borrow is not None for block in model.blocks)
        self._models = {
            table: StepModel(machines, one, samples, seq_length, half_precision)
            for table, one in ((False, model), (True, replace(model, blocks=copied)))
        }

    def model_of(self, layout: LayoutShape) -> StepModel:
        """Return what reckons steps of such layouts."""
        return self._models[layout.table]

    def candidates(self) -> Iterator[LayoutCandidate]:
        """Yield every layout that can be, with its bound."""
        for mesh in self._meshes():
            for micro_batches in self._micro_batches(mesh):
                for order, geometry in self._geometries(mesh):
                    for options in self._forms(mesh):
                        yield self.candidate(mesh, micro_batches, order, geometry, options)

    def candidate(
        self, mesh: Mesh, micro_batches: int, order: str, geometry: Geometry, options: Mapping[str, Any]
    ) -> LayoutCandidate:
        """Return one layout, split by time."""
        table = options["tied_transfer"] == "table"
        layout = LayoutShape(
            mesh.pipeline, mesh.data, mesh.tensor, (), geometry, micro_batches, (), options["shard"], table
        )
        model = self.model_of(layout)
        again = options["recompute"] == "full"
        blocks = model.model.blocks
        seconds = [
            one.forward + one.backward + (one.forward if again and block.layer else 0.0)
            for one, block in zip(model.blocks(layout), blocks)
        ]
        split = quickest_split(seconds, mesh.pipeline)
        layout = replace(layout, split=split, recomputed=_recomputed(blocks, split) if again else ())
        chosen = {"nums_split": mesh.pipeline, "tensor_parallel": mesh.tensor, "grad_acc_steps": micro_batches}
        return LayoutCandidate(layout, order, {**chosen, **options}, model.cost(layout))

    def play(self, candidate: LayoutCandidate) -> LayoutCandidate:
        """Return ``candidate`` with the seconds of its step."""
        return replace(candidate, seconds=candidate.cost.step)

    def best(self, count: int, fits: Fits = lambda candidate: True) -> SearchResult:
        """Return the ``count`` quickest layouts that fit, and how many were looked at."""
        everything = sorted(((one.cost.bound(), number, one) for number, one in enumerate(self.candidates())))
        found: List[Tuple[float, int, LayoutCandidate]] = []  # the worst first
        unfit: List[LayoutCandidate] = []
        played = 0
        for bound, number, candidate in everything:
            if len(found) == count and bound >= -found[0][0]:
                break
            played += 1
            whole = self.play(candidate)
            if len(found) == count and whole.seconds >= -found[0][0]:
                continue
            if not fits(candidate):
                unfit.append(whole)
                continue
            heapq.heappush(found, (-whole.seconds, -number, whole))
            if len(found) > count:
                heapq.heappop(found)
        best = [candidate for _, _, candidate in sorted(found, key=_negative)]
        return SearchResult(best, sorted(unfit, key=_seconds), len(everything), played)

    def best_of_each_kind(self, fits: Fits = lambda candidate: True) -> List[LayoutCandidate]:
        """Return the quickest layout that fits of each kind (``kind_of``), quickest first."""
        best: Dict[str, LayoutCandidate] = {}
        for bound, _, candidate in sorted((one.cost.bound(), n, one) for n, one in enumerate(self.candidates())):
            kind = kind_of(candidate)
            if kind in best and bound >= best[kind].seconds:
                continue
            whole = self.play(candidate)
            if (kind not in best or whole.seconds < best[kind].seconds) and fits(candidate):
                best[kind] = whole
        return sorted(best.values(), key=_seconds)

    def _meshes(self) -> Iterator[Mesh]:
        size, devices = self.machines.cluster.size, self.machines.devices_per_node
        for tensor in self.space.values("tensor_parallel", _divisors(devices)):
            if size % tensor:
                continue
            stages = [one for one in _divisors(size // tensor) if one <= len(self.model.blocks)]
            for pipeline in self.space.values("nums_split", stages):
                if size // tensor % pipeline or pipeline > len(self.model.blocks):
                    continue
                data = size // tensor // pipeline
                if self.samples % data == 0 and self._splits_heads(tensor):
                    yield Mesh(pipeline, data, tensor)

    def _splits_heads(self, tensor: int) -> bool:
        heads = (self.model.huggingface or {}).get("num_attention_heads") or (self.model.huggingface or {}).get(
            "n_head"
        )
        return heads is None or heads % tensor == 0

    def _micro_batches(self, mesh: Mesh) -> Sequence[int]:
        share = self.samples // mesh.data
        size = self.space.fixed.get("micro_batch")
        if isinstance(size, int):
            return [share // size] if share % size == 0 else []
        most = max(1, _MOST_PER_STAGE * mesh.pipeline)
        counts = [count for count in _divisors(share) if count <= most]
        return [count for count in self.space.values("grad_acc_steps", counts) if share % count == 0]

    def _geometries(self, mesh: Mesh) -> List[Tuple[str, Geometry]]:
        found: Dict[Geometry, str] = {}
        for order in self.space.values("order", (INTER_FIRST, INTRA_FIRST)):
            geometry = Geometry.regular(self.machines.cluster, mesh, order)
            if geometry is not None:
                found.setdefault(geometry, order)
        return [(order, geometry) for geometry, order in found.items()]

    def _forms(self, mesh: Mesh) -> Iterator[Dict[str, Any]]:
        shards = ("none", "optimizer", "parameters", *(("vocabulary",) if mesh.tensor == 1 else ()))
        ties = ("vectors", "table") if self.borrows and mesh.pipeline > 1 else ("vectors",)
        for shard in self.space.values("shard", shards if mesh.data > 1 else ("none",)):
            for recompute in self.space.values("recompute", ("none", "full")):
                for tied in self.space.values("tied_transfer", ties):
                    yield {"shard": shard, "recompute": recompute, "tied_transfer": tied}


@dataclass(frozen=True)
class SearchResult:
    """State what a search found: ``best``, quickest first; ``unfit``, quicker ones that do not fit; how many layouts
    there were (``candidates``), and how many of them were played through."""

    best: List[LayoutCandidate]
    unfit: List[LayoutCandidate]
    candidates: int
    played: int


def kind_of(candidate: LayoutCandidate) -> str:
    """Return which kinds of parallelism a layout has, and where the pipeline lies."""
    mesh, geometry = candidate.mesh, candidate.layout.geometry
    parts = []
    if mesh.pipeline > 1:
        where = "between" if any(geometry.hops) else "inside"
        parts.append(f"pipeline {where} nodes")
    if mesh.data > 1:
        parts.append(f"data parallel {'between' if geometry.data.nodes > 1 else 'inside'} nodes")
    if mesh.tensor > 1:
        parts.append("tensor parallel")
    return ", ".join(parts) or "one device"


def _recomputed(blocks: Sequence[Any], split: Sequence[int]) -> Tuple[int, ...]:
    counts, start = [], 0
    for count in split:
        counts.append(sum(block.layer for block in blocks[start : start + count]))
        start += count
    return tuple(counts)


def _divisors(size: int) -> List[int]:
    small = [one for one in range(1, int(size**0.5) + 1) if size % one == 0]
    return sorted({*small, *(size // one for one in small)})


def _seconds(candidate: LayoutCandidate) -> float:
    return candidate.seconds


def _negative(entry: Tuple[float, int, LayoutCandidate]) -> Tuple[float, int]:
    return (-entry[0], -entry[1])
