"""A plan as data: what ``plan --json`` prints and the page shows; ``docs/jobs/plan.md`` says what each key is."""

from __future__ import annotations

from typing import Any, Dict, List

from pipeloom.core.planning.ranking import stages_in_words
from pipeloom.core.planning.report import imbalance
from pipeloom.core.planning.worth import Evaluation
from pipeloom.plugins.commands.plan.planned import Planned

#: Clusters larger than this are told by stage and not by rank, and longer timelines by their first micro-batches.
MOST_RANKS, _MOST_SPANS = 2048, 4000


def content_of(planned: Planned) -> Dict[str, Any]:
    """Return a plan and what it is worth as JSON can have it; seconds, bytes, FLOPs."""
    plan, worth, config = planned.plan, planned.worth, planned.plan.config
    machines = worth.machines
    return {
        "name": planned.name,
        "plugins": list(config.plugins),
        "cluster": {
            "name": machines.name,
            "source": planned.known.source,
            "nodes": plan.cluster.nodes,
            "devices_per_node": plan.cluster.devices_per_node,
            "device": machines.device.name,
            "device_type": machines.device.type,
            "device_memory": machines.device.memory,
            "peak_flops": machines.device.peak_of(config.precision == "amp"),
            "ranks_sharing_a_device": machines.sharing,
        },
        "model": {
            "name": plan.model.name,
            "parameters": plan.model.size,
            "blocks": len(plan.model.blocks),
            "flops_per_step": plan.model.flops(plan.batch),
        },
        "mesh": {"pipeline": plan.mesh.pipeline, "data": plan.mesh.data, "tensor": plan.mesh.tensor},
        "options": {
            "train_global_batch_size": config.train_global_batch_size,
            "seq_length": config.seq_length,
            **{name: getattr(config, name) for name in ("grad_acc_steps", "recompute", "shard", "precision")},
            "micro_batch": plan.micro_batch_size,
            "tied_transfer": "table" if worth.layout.table else "vectors",
        },
        "split": list(plan.split),
        "split_in_words": stages_in_words(plan.model.blocks, plan.split),
        "stages": _stages(planned),
        "placement": _placement(planned),
        "traffic": _traffic(planned),
        "step": {
            "seconds": worth.seconds,
            "samples_per_second": worth.samples_per_second,
            "tokens_per_second": plan.batch.tokens / worth.seconds,
            "mfu": worth.mfu,
            "terms": dict(worth.terms),
        },
        "memory": {"room": worth.room, "fits": worth.fits, "largest": max(one.total for one in worth.memory)},
        "reasons": list(plan.reasons),
        "timeline": spans_of(worth),
    }


def _stages(planned: Planned) -> List[Dict[str, Any]]:
    plan, worth = planned.plan, planned.worth
    rows: List[Dict[str, Any]] = []
    for stage, blocks in enumerate(plan.model.stage_blocks(plan.split)):
        cost, memory = worth.cost, worth.memory[stage]
        rows.append(
            {
                "stage": stage,
                "blocks": [blocks[0].name, blocks[-1].name],
                "count": len(blocks),
                "parameters": sum(block.size for block in blocks),
                "flops": sum(block.cost.of(plan.batch).flops for block in blocks),
                "forward": cost.forward[stage],
                "backward": cost.backward[stage],
                "exchange": cost.exchange[stage],
                "hidden_exchange": cost.hidden[stage],
                "update": cost.update[stage],
                "hop": cost.hops[stage] if stage < len(cost.hops) else None,
                "in_flight": memory.held or worth.loads[stage].in_flight,
                "memory": {"total": memory.total, "parts": dict(memory.parts), "error": memory.error},
            }
        )
    for name in ("parameters", "flops"):
        rows[0][f"imbalance_of_{name}"] = imbalance([row[name] for row in rows])
    return rows


def _placement(planned: Planned) -> Dict[str, Any]:
    plan = planned.plan
    content: Dict[str, Any] = {"summary": plan.placement.summary()}
    if plan.cluster.size <= MOST_RANKS:
        stage_of = {rank: stage for stage, ranks in enumerate(plan.placement.stages) for rank in ranks}
        devices = plan.cluster.devices_per_node
        content["grid"] = [
            [stage_of[rank] for rank in range(node * devices, (node + 1) * devices)]
            for node in range(plan.cluster.nodes)
        ]
    return content


def _traffic(planned: Planned) -> Dict[str, Any]:
    """Bytes of a step: by reason between and inside nodes, and from node to node."""
    plan = planned.plan
    traffic = plan.traffic()
    crossing = traffic.between_nodes(plan.placement)
    between, whole = crossing.sums(), traffic.sums()
    links: Dict[str, float] = {}
    for part in crossing.parts().values():
        for (source, target), amount in part.items():
            links[f"{source}->{target}"] = links.get(f"{source}->{target}", 0.0) + amount
    if len(links) > MOST_RANKS:
        links = dict(sorted(links.items(), key=lambda entry: -entry[1])[:MOST_RANKS])
    return {
        "between_nodes": between,
        "inside_nodes": {name: amount - between[name] for name, amount in whole.items()},
        "links": links,
    }


def spans_of(worth: Evaluation) -> List[List[Any]]:
    """Return ``[stage, what, micro-batch, begin, end]`` of a step; of a long one the first spans."""
    spans = worth.cost.timeline().spans
    return [[one.stage, one.what, one.micro_batch, one.begin, one.end] for one in spans[:_MOST_SPANS]]
