"""How a weight that two stages share (the tied word embedding) is carried: by its outputs, or by a copy.

``vectors``: the weight stays where its owner is, and what the other stage looks up in it travels there:
samples x sequence x hidden a step, and as much back. ``table``: both stages hold the weight, the copy's
gradient travels to the owner once a step and the sum comes back: vocabulary x hidden each way. Neither
grows with the number of micro-batches.

``auto`` takes the form that is quicker. Both keep the stages about equally busy: the look-ups of a step and their
gradients are made by one stage or by the other, and look-ups are made ahead of the pipeline
(``plugins/executors/oneflow/lending.py``). So the time that differs is that of the link. Vectors and their
gradients travel both ways at once, and while stages compute; at the worst nothing hides them. The gradient of the
table goes there when all has been computed, and the sum comes back after it: nothing hides it, and the two ways
take twice as long as one. So the bytes of a table weigh twice, and the form with the lower weight between nodes is
taken; among equals the one with the lower weight in all; among those ``vectors``, which needs no second copy in
memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from pipeloom.core.contract.blocks import BatchSize, ModelSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.planning.traffic import step_traffic


def carry_shared(
    model: ModelSpec, split: Sequence[int], placement: Placement, batch: BatchSize, tensor: int, how: str
) -> ModelSpec:
    """``model`` with its borrowed parts carried as ``how`` says; a part borrowed on its owner's stage stays so."""
    stage_of = {block.name: stage for stage, blocks in enumerate(model.stage_blocks(split)) for block in blocks}
    away = {b.name for b in model.blocks if b.borrow is not None and stage_of[b.borrow.owner] != stage_of[b.name]}
    if how == "vectors" or not away:
        return model
    blocks = (block.borrow.copy if block.borrow is not None and block.name in away else block for block in model.blocks)
    copied = replace(model, blocks=tuple(blocks))
    if how == "table":
        return copied

    def cost(candidate: ModelSpec):
        traffic, ways = step_traffic(candidate, split, placement, batch, tensor), 2 if candidate is copied else 1
        weighed = (traffic.between_nodes(placement).sums(), traffic.sums())
        return tuple(sum(sums.values()) + (ways - 1) * sums["shared"] for sums in weighed)

    return min(model, copied, key=cost)


def with_copies(model: ModelSpec) -> ModelSpec:
    """``model`` with each borrowed part copied, as ``table`` has it where the owner is on another stage."""
    return replace(model, blocks=tuple(b.borrow.copy if b.borrow is not None else b for b in model.blocks))
