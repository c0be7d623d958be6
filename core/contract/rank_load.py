"""What a rank has to hold by the plan, whatever the engine, and what an engine makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional


@dataclass(frozen=True)
class RankLoad:
    """State what one rank has to hold; sizes in bytes.

    ``data`` times ``tensor`` ranks hold a stage; ``blocks``: those of the whole model, ``own_blocks`` of this stage.
    ``parameters``: its own part of the parameters; ``whole``: of those that it computes with, which ``--shard
    parameters`` gathers. ``updated``: what it updates, where gradients and the optimizer's states lie; ``masters``:
    whether that is kept beside the parameters. ``states``: tensors of the optimizer for each parameter;
    ``between_steps``: it works between the steps, on gradients that are kept for it. ``clipped``: by the global norm.

    ``gathered``: what a micro-batch gathers of spread parameters, forward and backward; ``looked_up``: that for uses
    other than products, which are gathered once. ``lent``: parameters that another stage borrows.

    ``kept``: what its blocks keep for the backward pass of one micro-batch, all ranks of a tensor group together, each
    of which has a part of that and the rest whole; ``recomputed``: what those would keep that
    are computed again; ``boundaries``: what these hand on, which is kept in its place. ``largest``: the most that one
    block keeps.
    ``batch``: its share of the inputs of a step. ``saved``: a copy
    from which a checkpoint is written, or of the whole state to take a step back. ``evaluates``: there is a held-out
    set.
    """

    device_type: str
    stage: int
    stages: int
    data: int
    tensor: int
    blocks: int
    own_blocks: int
    micro_batches: int
    parameters: float
    whole: float
    updated: float
    masters: bool
    states: int
    between_steps: bool
    clipped: bool
    kept: float
    recomputed: float
    boundaries: float
    largest: float
    batch: float
    gathered: float = 0.0
    looked_up: float = 0.0
    lent: float = 0.0
    saved: float = 0.0
    evaluates: bool = False

    @property
    def in_flight(self) -> int:
        """Return the micro-batches whose backward pass is still to come, at the most (1F1B, Narayanan et al. 2021)."""
        return min(self.micro_batches, self.stages - self.stage)


@dataclass(frozen=True)
class PredictedMemory:
    """State what an engine takes for a rank: bytes by reason, and how far off, relatively, the sum may be.

    With an ``error`` of 1, where nothing was measured, nothing is refused on the strength of it. ``held``: of how many
    micro-batches a rank has the activations at once, where that is not ``RankLoad.in_flight``.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    error: float = 1.0
    held: Optional[int] = None

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def least_memory(load: RankLoad) -> Dict[str, float]:
    """Return the bytes by reason of an engine that gives memory back as soon as it can (float32).

    Parameters, a gradient of each and one more where micro-batches add to it, the optimizer's states, and what blocks
    keep: Rajbhandari et al. 2020 for the first ones, Korthikanti et al. 2022 for the last.
    """
    gradients = load.whole + (load.updated if load.micro_batches > 1 else 0.0)
    return {
        "parameters": load.parameters + (load.updated if load.masters else 0.0),
        "gradients": gradients + (load.updated if load.between_steps else 0.0),
        "optimizer": load.states * load.updated,
        "activations": (load.in_flight * load.kept + load.largest) / load.tensor + load.in_flight * load.boundaries,
        "inputs": load.batch,
        "copy of the state": load.saved,
    }
