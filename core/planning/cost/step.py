"""What a step costs on given machines: seconds by stage and by reason, played through event by event."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import List, Mapping, Optional, Sequence, Tuple

from pipeloom.core.contract.blocks import BatchSize, ModelSpec, shard_dim, splits_vocabulary
from pipeloom.core.planning.cost.collectives import all_reduce_seconds, send_seconds
from pipeloom.core.planning.cost.compute import BlockSeconds, block_seconds
from pipeloom.core.planning.cost.geometry import Geometry, GroupShape
from pipeloom.core.planning.cost.machine import Machines
from pipeloom.core.planning.simulation import PipelineWork, Timeline, simulate

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Layout:
    """State how a job is laid out: what a plan decides, without the ranks one by one.

    ``split`` counts the blocks of each stage, ``recomputed`` the layers of each that are computed again. ``shard`` as
    ``--shard``. ``table``: a weight that two stages share is copied, else what is looked up in it travels.
    """

    pipeline: int
    data: int
    tensor: int
    split: Tuple[int, ...]
    geometry: Geometry
    micro_batches: int
    recomputed: Tuple[int, ...] = ()
    shard: str = "none"
    table: bool = False


@dataclass(frozen=True)
class StepCost:
    """State what a step takes, in seconds.

    ``forward``, ``backward``: of a micro-batch, by stage. ``hops``: of its hidden states from stage to stage.
    ``exchange``: what is left of the exchange of gradients after the backward passes, ``update``, by stage.
    ``rest``: what a step takes besides. ``terms``: the seconds of the busiest stage by reason, ``step`` in sum.
    """

    step: float
    forward: Tuple[float, ...]
    backward: Tuple[float, ...]
    hops: Tuple[float, ...]
    exchange: Tuple[float, ...]
    update: Tuple[float, ...]
    rest: float
    work: PipelineWork
    terms: Mapping[str, float] = field(default_factory=dict)

    def timeline(self) -> Timeline:
        """Return when each stage does what, from the first micro-batch to the update."""
        return simulate(self.work)


class StepModel:
    """Reckon steps of one model with one global batch on one cluster, for as many layouts as one likes."""

    def __init__(
        self,
        machines: Machines,
        model: ModelSpec,
        samples: int,
        seq_length: int,
        half_precision: bool = False,
        gradient_bytes: int = _FLOAT_BYTES,
    ) -> None:
        self.machines, self.model, self.samples, self.seq_length = machines, model, samples, seq_length
        self.half_precision, self.gradient_bytes = half_precision, gradient_bytes
        self._blocks = lru_cache(maxsize=None)(self._block_seconds)

    def _block_seconds(self, samples: float, tensor: GroupShape) -> List[BlockSeconds]:
        batch = BatchSize.of(samples, self.seq_length)
        return block_seconds(self.model.blocks, self.machines, batch, tensor, self.half_precision)

    def blocks(self, layout: Layout) -> List[BlockSeconds]:
        """Return what each block takes for a micro-batch of this layout."""
        return self._blocks(self.samples / (layout.data * layout.micro_batches), layout.geometry.tensor)

    def step(self, layout: Layout) -> StepCost:
        """Return what a step of ``layout`` costs."""
        seconds, constants = self.blocks(layout), self.machines.calibration
        micro = BatchSize.of(self.samples / (layout.data * layout.micro_batches), self.seq_length)
        forward, backward, hops, start = [], [], [], 0
        for stage, count in enumerate(layout.split):
            mine = range(start, start + count)
            again = [i for i in mine if self.model.blocks[i].layer]
            again = again[: layout.recomputed[stage]] if layout.recomputed else []
            forward.append(sum(seconds[i].forward for i in mine))
            backward.append(sum(seconds[i].backward for i in mine) + sum(seconds[i].forward for i in again))
            start += count
            if stage < layout.pipeline - 1:
                amount = self.model.blocks[start - 1].cost.of(micro).output_bytes * self._width / layout.tensor
                hops.append(send_seconds(self.machines, amount, layout.geometry.hops[stage]))
        exchange, update = self._after(layout, backward)
        arrivals = self._arrivals(layout, micro)
        work = PipelineWork(
            [[one] * layout.micro_batches for one in forward],
            [[one] * layout.micro_batches for one in backward],
            hops,
            arrivals,
            [one + other for one, other in zip(exchange, update)],
            capacity=self._capacity(layout),
        )
        length = step_length(work)
        return StepCost(
            length + constants.step,
            tuple(forward),
            tuple(backward),
            tuple(hops),
            tuple(exchange),
            tuple(update),
            constants.step,
            work,
        )

    def _capacity(self, layout: Layout) -> Optional[float]:
        """How many stages' work the cards or cores can do at once, where several ranks share one."""
        machines = self.machines
        if machines.sharing <= 1:
            return None
        busy = machines.nodes * machines.devices_per_node / machines.sharing  # as many ranks work at full speed
        return busy / (layout.data * layout.tensor)

    @property
    def _width(self) -> float:
        return 0.5 if self.half_precision else 1.0

    def _after(self, layout: Layout, backward: Sequence[float]) -> Tuple[List[float], List[float]]:
        """Seconds of each stage after its last backward pass: gradients that nothing hides, and the update."""
        constants, exchange, update, start = self.machines.calibration, [], [], 0
        shared = self._shared(layout) if layout.table and layout.pipeline > 1 else 0.0
        for stage, count in enumerate(layout.split):
            whole, updated = self._sizes(layout, start, count)
            start += count
            amount = whole * self.gradient_bytes
            seconds = all_reduce_seconds(self.machines, amount, layout.geometry.data)
            hidden = min(constants.overlap * seconds, backward[stage])
            exchange.append(seconds - hidden + (shared if stage in (0, layout.pipeline - 1) else 0.0))
            moved = updated * _FLOAT_BYTES * constants.update * self.machines.sharing
            update.append(moved / self.machines.device.memory_bandwidth)
        return exchange, update

    def _sizes(self, layout: Layout, start: int, count: int) -> Tuple[float, float]:
        """Parameters of a stage on each rank: those whose gradients are exchanged, and those that it updates."""
        exchanged = updated = 0.0
        specs = {spec.name: spec for block in self.model.blocks[start : start + count] for spec in block.parameters}
        for spec in specs.values():
            size = spec.size / (layout.tensor if spec.tensor_dim is not None else 1)
            if splits_vocabulary(spec, layout.shard, layout.data, layout.tensor):
                updated += size / layout.data
                continue
            exchanged += size
            spread = layout.shard in ("optimizer", "parameters")
            spread = spread and shard_dim(spec, layout.data, layout.tensor) is not None
            updated += size / layout.data if spread else size
        return exchanged, updated

    def _borrowed(self):
        return [block for block in self.model.blocks if block.borrow is not None]

    def _shared(self, layout: Layout) -> float:
        """Seconds that the gradient of a shared table and the sum of it take between two stages."""
        amount = sum(
            spec.size * _FLOAT_BYTES / layout.tensor
            for block in self._borrowed()
            if block.borrow is not None
            for spec in block.borrow.copy.parameters
            if spec.vocabulary
        )
        width = max(1, layout.data)
        return 2 * send_seconds(self.machines, amount / width, layout.geometry.ends)

    def _arrivals(self, layout: Layout, micro: BatchSize) -> List[float]:
        """When what the first stage borrows is there, of each micro-batch: looked up ahead, one after the other."""
        if layout.table or layout.pipeline == 1:
            return []
        each = sum(
            send_seconds(
                self.machines, block.cost.of(micro).output_bytes * self._width / layout.tensor, layout.geometry.ends
            )
            for block in self._borrowed()
        )
        return [each * (number + 1) for number in range(layout.micro_batches)] if each else []


def step_length(work: PipelineWork) -> float:
    """Return how long ``work`` takes; of many micro-batches by playing the first ones and going on as they go.

    Once every stage is in its stride the step grows by the same with each further micro-batch.
    """
    count, micro_batches = len(work.forward), len(work.forward[0])
    if count == 1:
        speed = min(1.0, work.capacity or 1.0)
        return micro_batches * (work.forward[0][0] + work.backward[0][0]) / speed + sum(work.after)
    few, period = 6 * count, 2 * count
    if micro_batches <= few + period:
        return simulate(work).length
    lengths = [simulate(_first(work, number)).length for number in (few, few + period)]
    return lengths[1] + (micro_batches - few - period) * (lengths[1] - lengths[0]) / period


def _first(work: PipelineWork, micro_batches: int) -> PipelineWork:
    return PipelineWork(
        [row[:micro_batches] for row in work.forward],
        [row[:micro_batches] for row in work.backward],
        work.hops,
        work.arrivals[:micro_batches],
        work.after,
        work.in_flight,
        work.capacity,
    )
