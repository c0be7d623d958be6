"""Copies of one parameter on several stages: kept equal by updating each with the sum of their gradients.

As Megatron-LM does for its tied embeddings (Shoeybi et al. 2019), but sharded: over d data-parallel ranks
each sends 1/d of the copy's gradient, so the table crosses once and not d times. It runs once per step, on the
accumulated gradients, like the clipping (``plugins/executors/oneflow/clipping.py``).
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.stages import Parameters

#: ``(stage, spec, parameter)`` of each copy, the owner last.
Holders = List[Tuple[int, ParameterSpec, flow.Tensor]]


def find_copies(stages: Sequence[Parameters]) -> Dict[str, Holders]:
    """The parameters that several stages hold."""
    holders: Dict[str, Holders] = {}
    for stage, parameters in enumerate(stages):
        for spec, parameter in parameters:
            holders.setdefault(spec.name, []).append((stage, spec, parameter))
    return {name: found for name, found in holders.items() if len(found) > 1}


def copies_of(copies: Dict[str, Holders]) -> Set[int]:
    """Ids of the parameters that are copies of another stage's."""
    return {id(parameter) for holders in copies.values() for _, _, parameter in holders[:-1]}


def share_copies(copies: Dict[str, Holders], axes: Sequence[StageAxes]) -> None:
    """Replace the gradients of all copies of a parameter by their sum, bit for bit the same on each stage."""
    # The products by 1 hold the engine to each transfer as written: it merges two in a row, and then sends every
    # rank of the other stage all shards.
    for holders in copies.values():
        owner_stage, spec, owner = holders[-1]
        shards = axes[0].spread(spec)
        total = owner.grad.to_global(placement=axes[owner_stage].place, sbp=shards)
        for stage, _, parameter in holders[:-1]:
            here = parameter.grad.to_global(placement=axes[stage].place, sbp=shards) * 1.0
            total = total + here.to_global(placement=axes[owner_stage].place, sbp=shards)
        owner.grad = total
        for stage, _, parameter in holders[:-1]:
            parameter.grad = total.to_global(placement=axes[stage].place, sbp=shards) * 1.0
