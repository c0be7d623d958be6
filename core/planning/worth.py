"""What a plan is worth on given machines: the step's time with its terms, memory, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Union

from pipeloom.core.contract.executor import Executor
from pipeloom.core.contract.optimizer import OptimizerSpec, StepOptimizer
from pipeloom.core.contract.rank_load import PredictedMemory, RankLoad
from pipeloom.core.planning.cost.geometry import Geometry
from pipeloom.core.planning.cost.hardware import Machines
from pipeloom.core.planning.cost.step import LayoutShape, StepCost, StepModel
from pipeloom.core.planning.machines import rank_room
from pipeloom.core.planning.memory import stage_loads
from pipeloom.core.planning.plan import Plan

#: What the terms of a step are, in the order in which they are told.
TERMS = {
    "products": "matrix products",
    "memory": "what memory moves besides",
    "host": "what the host takes to issue small work",
    "tensor": "all-reduces of tensor groups",
    "recompute": "layers computed again",
    "spread": "parameters or words gathered for each micro-batch",
    "sharing": "ranks that share a core or a card",
    "bubble": "waiting for other stages",
    "hidden states": "waiting for hidden states on the way",
    "gradients": "exchange of gradients that no backward pass hides",
    "tied table": "exchange of the tied table's gradients",
    "update": "the optimizer's update",
    "rest": "what a step takes besides",
}


@dataclass(frozen=True)
class Evaluation:
    """State what ``plan`` is worth on ``machines``.

    ``seconds``: of a step. ``terms``: those of the stage that works longest, by reason (``TERMS``), ``seconds`` in sum.
    ``loads``, ``memory``: of a rank of each stage. ``room``: bytes that a rank may take.
    """

    plan: Plan
    machines: Machines
    layout: LayoutShape
    cost: StepCost
    seconds: float
    terms: Mapping[str, float]
    loads: List[RankLoad]
    memory: List[PredictedMemory]
    room: float

    @property
    def samples_per_second(self) -> float:
        return self.plan.batch.samples / self.seconds

    @property
    def mfu(self) -> float:
        """Return the model FLOPs utilization, from 0 to 1: the model's FLOPs of a second over the devices' peak.

        As of ``core/training/efficiency.py``; devices that several ranks share count once.
        """
        machines = self.machines
        devices = machines.cluster.size / machines.sharing
        peak = machines.device.peak_of(self.plan.config.precision == "amp")
        return self.plan.model.flops(self.plan.batch) / self.seconds / (peak * devices)

    @property
    def fits(self) -> bool:
        return max(one.total for one in self.memory) <= self.room


def layout_of(plan: Plan) -> LayoutShape:
    """Return the layout of a plan as costs are reckoned for it."""
    config = plan.config
    return LayoutShape(
        plan.mesh.pipeline,
        plan.mesh.data,
        plan.mesh.tensor,
        tuple(plan.split),
        Geometry.of(plan.placement, plan.mesh.tensor),
        config.grad_acc_steps,
        tuple(map(len, plan.recomputed())),
        config.shard,
        not any(block.borrow is not None for block in plan.model.blocks),
    )


def step_model(plan: Plan, machines: Machines) -> StepModel:
    """Return what reckons steps of a plan's model and batch."""
    config = plan.config
    half = config.precision == "amp"
    return StepModel(machines, plan.model, config.train_global_batch_size, config.seq_length, half)


def evaluate(
    plan: Plan, machines: Machines, executor: Executor, optimizer: Union[OptimizerSpec, StepOptimizer]
) -> Evaluation:
    """Return what ``plan`` is worth on ``machines``."""
    layout, model = layout_of(plan), step_model(plan, machines)
    cost = model.cost(layout)
    loads = stage_loads(plan, optimizer)
    memory = [executor.memory(load) for load in loads]
    return Evaluation(
        plan, machines, layout, cost, cost.step, terms_of(model, layout, cost), loads, memory, rank_room(machines)
    )


def terms_of(model: StepModel, layout: LayoutShape, cost: StepCost) -> Dict[str, float]:
    """Return the seconds of a step by reason, of the stage that works longest.

    What a stage waits for is found by taking reasons away: the step without time on the way, then without waiting.
    """
    seconds, count = cost.step, layout.micro_batches
    busy = [forward + backward for forward, backward in zip(cost.forward, cost.backward)]
    stage = max(range(layout.pipeline), key=busy.__getitem__)
    start = sum(layout.split[:stage])
    blocks = model.blocks(layout)[start : start + layout.split[stage]]
    terms = {
        "products": 3 * count * sum(one.products for one in blocks),
        "memory": 3 * count * sum(one.memory for one in blocks),
        "tensor": 2 * count * sum(one.tensor for one in blocks),
    }
    passes = count * sum(one.forward + one.backward for one in blocks)
    terms["host"] = max(0.0, passes - sum(terms.values()))
    again = replace(layout, recomputed=())
    plain = replace(again, shard="none" if layout.shard in ("parameters", "vocabulary") else layout.shard)
    without, alone = model.cost(again), model.cost(plain)
    terms["recompute"] = count * (cost.backward[stage] - without.backward[stage])
    terms["spread"] = count * (busy[stage] - terms["recompute"] / count) - count * (
        alone.forward[stage] + alone.backward[stage]
    )
    sharing = 1 / min(1.0, cost.capacity or 1.0) if layout.pipeline == 1 else 1.0
    terms["sharing"] = count * busy[stage] * (sharing - 1)
    near = replace(cost, hops=(0.0,) * len(cost.hops), arrival=0.0)
    table = model.shared_seconds(layout) if stage in (0, layout.pipeline - 1) else 0.0
    after = {
        "gradients": cost.exchange[stage] - table,
        "tied table": table,
        "update": cost.update[stage],
        "rest": cost.rest,
    }
    terms["hidden states"] = max(0.0, seconds - near.step)
    terms["bubble"] = seconds - sum(terms.values()) - sum(after.values())
    terms.update(after)
    if terms["bubble"] < 0:  # another stage ends the step: its own end is what this one has not to wait for
        terms["hidden states"] += terms["bubble"]
        terms["bubble"] = 0.0
    return {name: terms[name] for name in TERMS if abs(terms[name]) > 1e-12}


def slowest_link(evaluation: Evaluation) -> Optional[Dict[str, float]]:
    """Return the bytes that leave the node that most leave in a step by reason; ``None`` where nothing does."""
    crossing = evaluation.plan.traffic().between_nodes(evaluation.plan.placement)
    out: Dict[int, Dict[str, float]] = {}
    for name, part in crossing.parts().items():
        for (source, _), amount in part.items():
            row = out.setdefault(source, {})
            row[name] = row.get(name, 0.0) + amount
    return max(out.values(), key=lambda row: sum(row.values())) if out else None


def explain_memory(loads: Sequence[RankLoad], memory: Sequence[PredictedMemory]) -> List[str]:
    """Return why stages of about equal parameters take unequal memory, in lines; none where they do not differ."""
    totals = [one.total for one in memory]
    if len(totals) < 2 or max(totals) < 1.05 * min(totals):
        return []
    most, least = totals.index(max(totals)), totals.index(min(totals))
    reasons = []
    for name in sorted({*memory[most].parts, *memory[least].parts}):
        more = memory[most].parts.get(name, 0.0) - memory[least].parts.get(name, 0.0)
        if more > 0.1 * (totals[most] - totals[least]):
            reasons.append((more, name))
    listed = ", ".join(f"{name} {_gb(more)}" for more, name in sorted(reasons, reverse=True))
    line = f"stage {most} takes {_gb(totals[most] - totals[least])} more than stage {least}: {listed}"
    here, there = (memory[stage].held or loads[stage].in_flight for stage in (most, least))
    if here > there:
        line += (
            f"; it keeps the activations of {here} micro-batches whose backward pass is still to come, stage {least} "
            f"those of {there}"
        )
    return [line]


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
