"""How a weight that two stages share (the tied word embedding) is carried: by its outputs, or by a copy.

``vectors``: the weight stays where its owner is, and what the other stage looks up in it travels there:
samples x sequence x hidden a step, and as much back. ``table``: both stages hold the weight, the copy's
gradient travels to the owner once a step and the sum comes back: vocabulary x hidden each way. Neither
grows with the number of micro-batches.

``auto`` takes the quicker. Both forms keep the stages equally busy: a look-up and the accumulation of its gradient are made
once per micro-batch, on one stage or on the other, and look-ups are made ahead of the pipeline (``core/executor/lending.py``), so neither
waits. What is left is what the link between nodes must carry, so it takes the form with fewer bytes there; among
equals the one with fewer bytes in all; among those ``vectors``, which needs no second copy in memory and whose bytes travel while
stages compute, where those of the table travel when they have done so.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from pipeloom.core.blocks import ModelSpec
from pipeloom.core.communication import step_traffic
from pipeloom.core.placement import Placement

#: The answers to ``--tied_transfer``.
CHOICES = ("auto", "vectors", "table")


def carry_shared(model: ModelSpec, split: Sequence[int], placement: Placement, tokens: float, tensor: int,
                 how: str) -> ModelSpec:
    """``model`` with its borrowed parts carried as ``how`` says; a part borrowed on its owner's stage stays so."""
    stage_of = {block.name: stage for stage, blocks in enumerate(model.stage_blocks(split)) for block in blocks}
    away = {b.name for b in model.blocks if b.borrow is not None and stage_of[b.borrow.owner] != stage_of[b.name]}
    if how == "vectors" or not away:
        return model
    copied = replace(model, blocks=tuple(block.borrow.copy if block.name in away else block for block in model.blocks))
    if how == "table":
        return copied

    def cost(candidate: ModelSpec):
        traffic = step_traffic(candidate, split, placement, tokens, tensor)
        return sum(traffic.between_nodes(placement).sums().values()), sum(traffic.sums().values())

    return min(model, copied, key=cost)
