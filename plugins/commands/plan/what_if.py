"""``plan --what-if``: other schedules, networks and sizes of the cluster, by the same simulation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.cost.step import StepCost
from pipeloom.core.planning.simulation import PipelineWork, simulate
from pipeloom.plugins.commands.plan.explaining import at_rate, bits
from pipeloom.plugins.commands.plan.planned import Planned

#: Bandwidths between nodes, in bytes a second.
_RATES = (125e6, 1.25e9, 3.125e9, 12.5e9, 50e9)
#: Chunks of a device in an interleaved schedule.
_CHUNKS = 2
_CANNOT = "the engine cannot run it"


def what_if(planned: Planned) -> Tuple[List[str], List[Dict[str, Any]]]:
    """Return lines and rows: what a step would take otherwise."""
    rows = list(_rows(planned))
    now = planned.worth.seconds / planned.plan.batch.samples
    width = max(len(row["what"]) for row in rows)
    lines = ["what if (seconds a step, and samples a second against today's):"]
    for row in rows:
        rate = row["samples"] / row["seconds"] * now
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"  {row['what']:<{width}}  {row['seconds']:.4g} s  {rate:.2f} x{note}")
    return lines, rows


def _rows(planned: Planned) -> Iterator[Dict[str, Any]]:
    plan, worth = planned.plan, planned.worth
    samples = plan.config.train_global_batch_size
    yield _row("as it is", worth.seconds, samples)
    if plan.mesh.pipeline > 1:
        cost = worth.cost
        if min(plan.split) >= _CHUNKS:
            seconds = interleaved(cost, _CHUNKS) + cost.rest
            yield _row(f"interleaved, {_CHUNKS} chunks a device", seconds, samples, _CANNOT)
        yield _row("zero bubble (weights' gradients wait)", zero_bubble(cost) + cost.rest, samples, _CANNOT)
    machines = planned.known.machines
    if machines.nodes > 1:
        for rate in _RATES:
            if abs(rate / machines.between.bandwidth - 1) > 0.01:
                there = planned.on(planned.known._replace(machines=at_rate(machines, rate)))
                yield _row(f"{bits(rate)} between nodes", there.seconds, samples)
    twice = ("twice the nodes, twice the batch", 2 * samples), ("twice the nodes, the same batch", samples)
    for what, batch in twice:
        cluster = replace(plan.cluster, nodes=2 * plan.cluster.nodes)
        config = planned.config.replace(
            nnodes=cluster.nodes, train_global_batch_size=batch, nums_split=plan.mesh.pipeline,
            tensor_parallel=plan.mesh.tensor, grad_acc_steps=plan.config.grad_acc_steps,
        )  # fmt: skip
        try:
            there = Planned.planned(config, planned.plugins, cluster).worth
        except UsageError as error:
            yield {"what": what, "seconds": float("inf"), "samples": batch, "note": str(error)}
            continue
        yield _row(what, there.seconds, batch)


def interleaved(cost: StepCost, chunks: int) -> float:
    """Return the seconds of a step whose devices each hold ``chunks`` stages of the model (Narayanan et al. 2021).

    Each chunk takes its share of a stage's time; hidden states go from device to device as many times more.
    """
    stages, count = len(cost.forward), cost.micro_batches
    virtual = [stage for _ in range(chunks) for stage in range(stages)]
    back = max(cost.hops, default=0.0)
    hops = [*cost.hops, back] * chunks
    work = PipelineWork(
        [[cost.forward[stage] / chunks] * count for stage in virtual],
        [[cost.backward[stage] / chunks] * count for stage in virtual],
        hops[: len(virtual) - 1],
        after=[0.0] * (len(virtual) - stages) + cost.after(),
        devices=virtual,
        in_flight=2 * stages * chunks,
    )
    return simulate(work).length


def zero_bubble(cost: StepCost) -> float:
    """Return the seconds of a step whose gradients of weights wait until a stage has nothing else to do (Qi et al.
    2023): half of the backward pass, as that has two products for each one of the forward pass."""
    count = cost.micro_batches
    half = [[one / 2] * count for one in cost.backward]
    work = PipelineWork([[one] * count for one in cost.forward], half, cost.hops, after=cost.after(), weights=half)
    return simulate(work).length


def _row(what: str, seconds: float, samples: int, note: str = "") -> Dict[str, Any]:
    return {"what": what, "seconds": seconds, "samples": samples, "note": note}
