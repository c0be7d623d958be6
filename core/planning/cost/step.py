"""What a step costs on given machines: seconds by stage and by reason, played through event by event."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from pipeloom.core.contract.blocks import BatchSize, ModelSpec
from pipeloom.core.planning.cost.collectives import all_reduce_seconds, send_seconds
from pipeloom.core.planning.cost.compute import BlockSeconds, block_seconds
from pipeloom.core.planning.cost.geometry import Geometry, GroupShape
from pipeloom.core.planning.cost.hardware import Machines
from pipeloom.core.planning.cost.parameters import Spread, spread
from pipeloom.core.planning.simulation import PipelineWork, Timeline, simulate

_FLOAT_BYTES = 4
#: Of a longer step so many passes of all stages are played, and it goes on as in the last ones of them.
_PLAYED = 768, 256


@dataclass(frozen=True)
class LayoutShape:
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
    ``arrival``: of what the first stage borrows for a micro-batch. ``exchange``: of gradients, as far as no backward
    pass hides it, and ``hidden``, as far as one does; ``update``; by stage. ``rest``: what a step takes besides.
    ``capacity``: how many stages the machines serve at full speed at once, where ranks share them.
    """

    micro_batches: int
    forward: Tuple[float, ...]
    backward: Tuple[float, ...]
    hops: Tuple[float, ...]
    arrival: float
    exchange: Tuple[float, ...]
    hidden: Tuple[float, ...]
    update: Tuple[float, ...]
    rest: float
    capacity: Optional[float] = None

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return step_length(self.work()) + self.rest

    def after(self) -> List[float]:
        """Return what each stage does after its last backward pass."""
        return [exchange + update for exchange, update in zip(self.exchange, self.update)]

    def work(self) -> PipelineWork:
        """Return the step as the simulation takes it."""
        count = self.micro_batches
        return PipelineWork(
            [[one] * count for one in self.forward],
            [[one] * count for one in self.backward],
            self.hops,
            [self.arrival * (number + 1) for number in range(count)] if self.arrival else (),
            self.after(),
            capacity=self.capacity,
        )

    def timeline(self) -> Timeline:
        """Return when each stage does what, from the first micro-batch to the update."""
        return simulate(self.work())

    def bound(self) -> float:
        """Return seconds that the step takes at the least, much sooner than ``step`` says how many they are.

        In any order a stage works through all micro-batches after the first has come through the stages before it, and
        the last one goes back through these after that.
        """
        count, longest, there, back = self.micro_batches, 0.0, 0.0, 0.0
        after = self.after()
        slower = 1 / min(1.0, self.capacity or 1.0) if len(self.forward) == 1 else 1.0
        for stage, (forward, backward) in enumerate(zip(self.forward, self.backward)):
            busy = there + count * (forward + backward) * slower
            longest = max(longest, busy + after[stage], busy + back + after[0])
            if stage < len(self.hops):
                there += forward + self.hops[stage]
                back += backward + self.hops[stage]
        if self.capacity is not None:  # all of the work there is
            total = count * (sum(self.forward) + sum(self.backward))
            longest = max(longest, total / min(self.capacity, len(self.forward)))
        return longest + self.rest


class _Sums(NamedTuple):
    """Seconds of all blocks before each position, ``[blocks + 1]``."""

    forward: np.ndarray
    backward: np.ndarray


class StepModel:
    """Reckon steps of one model with one global batch on one cluster, for as many layouts as one likes.

    ``gradient_bytes``: of each number when gradients are exchanged; this project's engine does so in float32.
    """

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
        self._seconds = lru_cache(maxsize=None)(self._block_seconds)
        self._sums = lru_cache(maxsize=None)(self._summed)
        self._spread = lru_cache(maxsize=None)(self._spread_out)
        self._layers = np.concatenate([[0], np.cumsum([block.layer for block in model.blocks])])
        self._borrowed = [block for block in model.blocks if block.borrow is not None]
        self._table = sum(spec.size for b in self._borrowed if b.borrow for spec in b.borrow.copy.parameters)

    def _block_seconds(self, samples: float, tensor: GroupShape) -> List[BlockSeconds]:
        batch = BatchSize.of(samples, self.seq_length)
        return block_seconds(self.model.blocks, self.machines, batch, tensor, self.half_precision)

    def _summed(self, samples: float, tensor: GroupShape) -> _Sums:
        found = self._seconds(samples, tensor)
        return _Sums(
            np.concatenate([[0.0], np.cumsum([one.forward for one in found])]),
            np.concatenate([[0.0], np.cumsum([one.backward for one in found])]),
        )

    def _spread_out(self, shard: str, data: int, tensor: int) -> Spread:
        return spread(self.model.blocks, shard, data, tensor)

    def blocks(self, layout: LayoutShape) -> List[BlockSeconds]:
        """Return what each block takes for a micro-batch of this layout."""
        return self._seconds(self._micro(layout), layout.geometry.tensor)

    def _micro(self, layout: LayoutShape) -> float:
        return self.samples / (layout.data * layout.micro_batches)

    def cost(self, layout: LayoutShape) -> StepCost:
        """Return what a step of ``layout`` costs."""
        sums = self._sums(self._micro(layout), layout.geometry.tensor)
        cuts = np.concatenate([[0], np.cumsum(layout.split)])
        forward, backward = np.diff(sums.forward[cuts]), np.diff(sums.backward[cuts])
        if any(layout.recomputed):
            backward = backward + self._recomputed(layout, sums, cuts)
        spread_out = self._spread(layout.shard, layout.data, layout.tensor)
        if layout.micro_batches > 1 and self.machines.calibration.accumulate:
            backward = backward + self._added(layout, spread_out, cuts)
        if layout.data > 1 and layout.shard in ("parameters", "vocabulary"):
            each = self._each_micro_batch(layout, spread_out, cuts)
            forward, backward = forward + each / 2, backward + each
        exchange, hidden, update = self._after(layout, spread_out, cuts, backward)
        return StepCost(
            layout.micro_batches,
            tuple(forward.tolist()),
            tuple(backward.tolist()),
            self._hops(layout, cuts),
            self._arrival(layout),
            tuple(exchange),
            tuple(hidden),
            tuple(update),
            self.machines.calibration.step,
            self._capacity(layout),
        )

    def _recomputed(self, layout: LayoutShape, sums: _Sums, cuts: np.ndarray) -> np.ndarray:
        """Seconds of the first layers of each stage that run forward again."""
        again = []
        for stage, count in enumerate(layout.recomputed):
            start, end = cuts[stage], cuts[stage + 1]
            first = int(np.searchsorted(self._layers, self._layers[start] + 1)) - 1  # where its first layer begins
            last = min(int(end), first + count)
            again.append(sums.forward[last] - sums.forward[first] if count else 0.0)
        return np.array(again)

    def _added(self, layout: LayoutShape, spread_out: Spread, cuts: np.ndarray) -> np.ndarray:
        """Seconds to add a micro-batch's gradients to those before; of parameters that are spread to a rank's own."""
        own = layout.shard in ("parameters", "vocabulary")
        sizes = np.diff((spread_out.updated if own else spread_out.exchanged)[cuts])
        moved = sizes * _FLOAT_BYTES * self.machines.calibration.accumulate
        return moved / self.machines.device.memory_bandwidth

    def _hops(self, layout: LayoutShape, cuts: np.ndarray) -> Tuple[float, ...]:
        micro = BatchSize.of(self._micro(layout), self.seq_length)
        return tuple(
            send_seconds(self.machines, self._out(self.model.blocks[cut - 1], micro) / layout.tensor, leaving)
            for cut, leaving in zip(cuts[1:-1], layout.geometry.hops)
        )

    def _out(self, block, micro: BatchSize) -> float:
        return block.cost.of(micro).output_bytes * (0.5 if self.half_precision else 1.0)

    def _arrival(self, layout: LayoutShape) -> float:
        """Seconds of what the first stage borrows of a micro-batch: looked up ahead, one after the other."""
        if layout.table or layout.pipeline == 1:
            return 0.0
        micro = BatchSize.of(self._micro(layout), self.seq_length)
        amounts = (self._out(block, micro) / layout.tensor for block in self._borrowed)
        return sum(send_seconds(self.machines, amount, layout.geometry.ends) for amount in amounts)

    def _each_micro_batch(self, layout: LayoutShape, spread_out: Spread, cuts: np.ndarray) -> np.ndarray:
        """Seconds of what data-parallel ranks exchange in the backward pass of each micro-batch; forward takes half.

        Spread parameters are gathered for each pass and their gradients scattered, each half an all-reduce; blocks that
        share the words out all-reduce what each found of all samples, as a tensor group does.
        """
        if layout.shard == "parameters":
            amounts = np.diff(spread_out.gathered[cuts]) * _FLOAT_BYTES
        else:
            batch = BatchSize.of(self._micro(layout) * layout.data, self.seq_length)
            whole = [
                block.cost.of(batch).tensor_bytes / 2 if words else 0.0
                for block, words in zip(self.model.blocks, spread_out.words)
            ]
            amounts = np.add.reduceat(np.array(whole), cuts[:-1])
        return np.array([all_reduce_seconds(self.machines, amount, layout.geometry.data) for amount in amounts])

    def _after(
        self, layout: LayoutShape, spread_out: Spread, cuts: np.ndarray, backward: np.ndarray
    ) -> Tuple[List[float], List[float], List[float]]:
        """Seconds of each stage after its last backward pass, and what of the exchange that pass hides."""
        constants, exchange, hidden = self.machines.calibration, [], []
        copied = self.shared_seconds(layout)
        for stage, amount in enumerate(np.diff(spread_out.exchanged[cuts]) * self.gradient_bytes):
            seconds = all_reduce_seconds(self.machines, float(amount), layout.geometry.data)
            hidden.append(min(constants.overlap * seconds, float(backward[stage])))
            shared = copied if stage in (0, layout.pipeline - 1) else 0.0
            exchange.append(seconds - hidden[-1] + shared)
        moved = np.diff(spread_out.updated[cuts]) * _FLOAT_BYTES * constants.update * self.machines.sharing
        return exchange, hidden, (moved / self.machines.device.memory_bandwidth).tolist()

    def shared_seconds(self, layout: LayoutShape) -> float:
        """Return the seconds that the gradient of a copied table takes to the other stage, and the sum of it back."""
        if not layout.table or layout.pipeline == 1:
            return 0.0
        amount = self.shared_table * _FLOAT_BYTES / (layout.tensor * layout.data)
        return 2 * send_seconds(self.machines, amount, layout.geometry.ends)

    @property
    def shared_table(self) -> int:
        """Number of parameters that the first and the last stage both hold."""
        if self._table:
            return self._table
        last = {spec.name for spec in self.model.blocks[-1].parameters}
        return sum(spec.size for spec in self.model.blocks[0].parameters if spec.name in last)

    def _capacity(self, layout: LayoutShape) -> Optional[float]:
        """How many stages' work the cards or cores can do at once, where several ranks share one."""
        machines = self.machines
        if machines.sharing <= 1:
            return None
        busy = machines.nodes * machines.devices_per_node / machines.sharing  # as many ranks work at full speed
        return busy / (layout.data * layout.tensor)


def step_length(work: PipelineWork) -> float:
    """Return how long ``work`` takes; of many micro-batches by playing the first ones and going on as they go.

    Once every stage is in its stride the step grows by the same with each further micro-batch.
    """
    count, micro_batches = len(work.forward), len(work.forward[0])
    if count == 1:
        speed = min(1.0, work.capacity or 1.0)
        arrival = work.arrivals[0] if work.arrivals else 0.0
        return arrival + micro_batches * (work.forward[0][0] + work.backward[0][0]) / speed + sum(work.after)
    few, period = (max(part // count, 2 * count) for part in _PLAYED)
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
