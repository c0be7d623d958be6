"""How much memory each rank takes by the plan: what it has to hold, as the engine says that it holds it.

Nothing is measured here. What blocks keep is in their costs, what an engine adds is its own answer
(``Executor.memory``).
"""

from __future__ import annotations

from typing import List, Sequence, Union

from pipeloom.core.contract.blocks import (
    BatchSize,
    Block,
    ParameterSpec,
    physical_shape,
    shard_dim,
    splits_vocabulary,
    stage_inputs,
)
from pipeloom.core.contract.core_fields import known_fields
from pipeloom.core.contract.executor import Executor
from pipeloom.core.contract.optimizer import OptimizerSpec, StepOptimizer
from pipeloom.core.contract.rank_load import PredictedMemory, RankLoad
from pipeloom.core.planning.plan import Plan

_NUMBER_BYTES = 4  # float32 and int32


def memory_by_rank(
    plan: Plan, executor: Executor, optimizer: Union[OptimizerSpec, StepOptimizer]
) -> List[PredictedMemory]:
    """Return what ``executor`` says that each rank of ``plan`` takes, by rank."""
    answers = [executor.memory(load) for load in stage_loads(plan, optimizer)]
    writes = [executor.memory(load) for load in stage_loads(plan, optimizer, writes=True)]
    return [
        (writes if rank == plan.placement.stages[stage][0] else answers)[stage]
        for rank in range(plan.cluster.size)
        for stage in [plan.placement.stage_of(rank)]
    ]


def stage_loads(plan: Plan, optimizer: Union[OptimizerSpec, StepOptimizer], writes: bool = False) -> List[RankLoad]:
    """Return what a rank of each stage has to hold.

    ``writes``: for the first rank of each stage, which writes checkpoints of it.
    """
    config, width = plan.config, plan.mesh.data
    micro = BatchSize.of(plan.micro_batch_size, config.seq_length)
    half = 0.5 if config.precision == "amp" else 1.0  # of what blocks keep, which is stated in float32
    known, states = known_fields(plan.fields), _states(optimizer)
    loads = []
    for stage, (blocks, recomputed) in enumerate(zip(plan.model.stage_blocks(plan.split), plan.recomputed())):
        sizes = _Sizes(plan, blocks)
        kept = [block.cost.of(micro).kept_bytes * half for block in blocks]
        again = set(recomputed)
        fields = stage_inputs(blocks, plan.model.blocks)
        copied = sizes.whole * plan.mesh.tensor * (1 + states) if writes and _copies(plan) else 0.0
        if config.on_nan == "skip":
            copied += sizes.own + (states + (config.shard == "optimizer")) * sizes.updated
        loads.append(
            RankLoad(
                device_type=plan.cluster.device_type,
                stage=stage,
                stages=plan.mesh.pipeline,
                data=width,
                tensor=plan.mesh.tensor,
                blocks=len(plan.model.blocks),
                own_blocks=len(blocks),
                micro_batches=config.grad_acc_steps,
                parameters=sizes.own,
                whole=sizes.whole,
                updated=sizes.updated,
                masters=config.shard == "optimizer" and width > 1,
                states=states,
                between_steps=isinstance(optimizer, StepOptimizer),
                clipped=config.clip_grad_norm > 0,
                kept=sum(size for position, size in enumerate(kept) if position not in again),
                recomputed=sum(kept[position] for position in again),
                boundaries=sum(blocks[position].cost.of(micro).output_bytes * half for position in again),
                largest=max(kept),
                batch=sum(_width(known[name].shape) for name in fields)
                * _NUMBER_BYTES
                * (config.train_global_batch_size / width),
                gathered=sizes.gathered,
                looked_up=sizes.looked_up,
                lent=sum(_bytes(spec, plan.mesh.tensor) for spec in _lent(blocks, plan.model.blocks)),
                saved=copied,
                evaluates=plan.evaluation is not None,
            )
        )
    return loads


class _Sizes:
    """Bytes of the parameters of a stage on each of its ranks."""

    def __init__(self, plan: Plan, blocks: Sequence[Block]) -> None:
        data, tensor, shard = plan.mesh.data, plan.mesh.tensor, plan.config.shard
        self.whole = self.own = self.updated = self.gathered = self.looked_up = 0.0
        lent = {spec.name for spec in _lent(blocks, plan.model.blocks, here_too=True)}
        for spec in {spec.name: spec for block in blocks for spec in block.parameters}.values():
            whole = part = _bytes(spec, tensor)
            if splits_vocabulary(spec, shard, data, tensor):
                whole = part = whole / data
            elif shard in ("optimizer", "parameters") and shard_dim(spec, data, tensor) is not None:
                part = whole / data
                if shard == "parameters":
                    uses = spec.lookups + (spec.name in lent)
                    self.looked_up += uses * whole
                    self.gathered += (2 * spec.products + uses) * whole
            self.whole += whole
            self.updated += part
            self.own += part if shard == "parameters" else whole


def _lent(blocks: Sequence[Block], all_blocks: Sequence[Block], here_too: bool = False) -> List[ParameterSpec]:
    """The parameters of a stage's ``blocks`` that a block of another stage borrows, or (``here_too``) of any."""
    here = {block.name: block for block in blocks}
    borrows = [b.borrow for b in all_blocks if b.borrow is not None and (here_too or b.name not in here)]
    return [
        spec
        for borrow in borrows
        if borrow.owner in here
        for spec in borrow.copy.parameters
        if spec.name in {own.name for own in here[borrow.owner].parameters}
    ]


def _bytes(spec: ParameterSpec, tensor: int) -> float:
    return _width(physical_shape(spec, tensor)) * _NUMBER_BYTES / (tensor if spec.tensor_dim is not None else 1)


def _width(shape: Sequence[int]) -> int:
    width = 1
    for size in shape:
        width *= size
    return width


def _states(optimizer: Union[OptimizerSpec, StepOptimizer]) -> int:
    """Tensors that it keeps of each parameter."""
    if isinstance(optimizer, StepOptimizer):
        return len(optimizer.states)
    return 2 if optimizer.kind == "adamw" else int(optimizer.settings.get("momentum", 0.0) > 0)


def _copies(plan: Plan) -> bool:
    """Whether a checkpoint is written from a copy in memory."""
    return plan.config.save_every != 0 and plan.config.async_save
