"""Copies of one parameter on several stages: kept equal by updating each with the sum of their gradients.

As Megatron-LM does for its tied embeddings (Shoeybi et al. 2019), but sharded: over d data-parallel ranks
each sends 1/d of the copy's gradient, so the table crosses once and not d times. It runs once per step, on the
accumulated gradients, like the clipping (``core/executor/clipping.py``).
"""
from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import oneflow as flow

#: ``(stage, parameter)`` of each copy, the owner last.
Holders = List[Tuple[int, flow.Tensor]]


def find_copies(stages: Sequence[Sequence[Tuple[str, flow.Tensor]]]) -> Dict[str, Holders]:
    """The parameters that several stages hold; ``stages[s]`` lists ``(name, parameter)`` of stage s."""
    holders: Dict[str, Holders] = {}
    for stage, parameters in enumerate(stages):
        for name, parameter in parameters:
            holders.setdefault(name, []).append((stage, parameter))
    return {name: found for name, found in holders.items() if len(found) > 1}


def share_copies(copies: Dict[str, Holders], places: Sequence[flow.placement]) -> None:
    """Replace the gradients of all copies of a parameter by their sum, bit for bit the same on each stage."""
    # The products by 1 hold the engine to each transfer as written: it merges two in a row, and then sends every
    # rank of the other stage all shards.
    shards = flow.sbp.split(0)
    for holders in copies.values():
        owner_stage, owner = holders[-1]
        total = owner.grad.to_global(placement=places[owner_stage], sbp=shards)
        for stage, parameter in holders[:-1]:
            here = parameter.grad.to_global(placement=places[stage], sbp=shards) * 1.0
            total = total + here.to_global(placement=places[owner_stage], sbp=shards)
        owner.grad = total
        for stage, parameter in holders[:-1]:
            parameter.grad = total.to_global(placement=places[stage], sbp=shards) * 1.0
