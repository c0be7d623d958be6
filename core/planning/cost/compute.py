"""Seconds that blocks take on a device, by what they compute and move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.blocks import BatchSize, Block, Cost
from pipeloom.core.planning.cost.collectives import all_reduce_seconds
from pipeloom.core.planning.cost.geometry import GroupShape
from pipeloom.core.planning.cost.hardware import Machines

#: How sharply the larger of two times wins: the host issues the next work while the device does the last.
_SHARPNESS = 3.0
#: Tensors as wide as a layer's output that each rank of a tensor group keeps whole, of those that a layer keeps: inputs
#: of both halves and of LayerNorm, and the masks of dropout (Korthikanti et al. 2022, section 4: 10 s b h bytes, of 2).
_WHOLE_IN_GROUP = 5
#: All-reduces of a tensor group in one pass over a layer (Shoeybi et al. 2019).
_EACH_PASS = 2


@dataclass(frozen=True)
class BlockSeconds:
    """State the seconds of a pass over one micro-batch, and what of them has which reason.

    ``products``, ``memory``, ``tensor``: of the forward pass alone, before what the host takes at the least.
    """

    forward: float
    backward: float
    products: float
    memory: float
    tensor: float


def block_seconds(
    blocks: Sequence[Block],
    machines: Machines,
    micro_batch: BatchSize,
    tensor: GroupShape,
    half_precision: bool,
) -> List[BlockSeconds]:
    """Return what each block takes on one rank for one micro-batch of all of a tensor group.

    A product's operations at the reached share of the peak, what the block keeps moved through memory so many times,
    and the all-reduces of the group; or what the host takes to issue it all, if that is more. The backward pass
    computes two products for each one, and moves twice as much.
    """
    known: Dict[Tuple[Cost, bool, str], BlockSeconds] = {}
    found = []
    for block in blocks:
        is_head = block is blocks[-1]
        key = (block.cost, block.layer, "" if block.layer else block.name)  # layers are mostly all alike
        if key not in known or is_head:
            known[key] = _seconds(block, is_head, machines, micro_batch, tensor, half_precision)
        found.append(known[key])
    return found


def _seconds(
    block: Block, is_head: bool, machines: Machines, batch: BatchSize, group: GroupShape, half_precision: bool
) -> BlockSeconds:
    constants, amounts, ranks = machines.calibration, block.cost.of(batch), group.ranks
    width = 0.5 if half_precision else 1.0  # costs are stated in float32
    flops = amounts.flops / ranks
    kept = amounts.kept_bytes
    if ranks > 1:
        whole = min(kept, _WHOLE_IN_GROUP * amounts.output_bytes)
        kept = whole + (kept - whole) / ranks
    measured = _measured(block, machines, batch.tokens, amounts.flops)
    if measured is not None:
        forward, backward = (seconds / ranks for seconds in measured)
        products, memory = forward, 0.0
    else:
        products = flops / (machines.device.peak_of(half_precision) * constants.efficiency)
        memory = kept * width * constants.traffic / machines.device.memory_bandwidth
        forward = products + memory
        backward = 2 * forward
    exchanged = all_reduce_seconds(machines, amounts.tensor_bytes * width / 2, group, _EACH_PASS) if ranks > 1 else 0.0
    least = constants.launch if block.layer else constants.head_launch / 3 if is_head else 0.0
    waiting = _EACH_PASS * constants.sync * (ranks - 1) if block.layer else 0.0
    return BlockSeconds(
        _larger(forward + exchanged, least) + waiting,
        _larger(backward + exchanged, 2 * least) + waiting,
        products,
        memory,
        exchanged + waiting,
    )


def _larger(one: float, other: float) -> float:
    """The larger of two, rounded where they come near: ``(a^k + b^k)^(1/k)``."""
    most = max(one, other)
    if not most:
        return 0.0
    return most * ((one / most) ** _SHARPNESS + (other / most) ** _SHARPNESS) ** (1 / _SHARPNESS)


def _measured(block: Block, machines: Machines, tokens: float, flops: float) -> "Tuple[float, float] | None":
    """Seconds of both passes from measured ones: between sizes by the line between them, scaled by FLOPs."""
    kind = "layer" if block.layer else block.name
    rows = sorted((row for row in machines.measured if row.kind == kind), key=lambda row: row.tokens)
    if not rows:
        return None
    sizes = [row.tokens for row in rows]

    def at(values: Sequence[float]) -> float:
        # Per token, for that is nearly flat: beyond the measured sizes it stays as at the nearest one.
        return float(np.interp(tokens, sizes, [v / s for v, s in zip(values, sizes)])) * tokens

    scale = flops / at([row.flops for row in rows]) if rows[0].flops else 1.0
    return at([row.forward for row in rows]) * scale, at([row.backward for row in rows]) * scale
