"""A plan in words: what the log says of it, and what may not be what was meant."""

from __future__ import annotations

from typing import List, Mapping, Sequence, Tuple

from pipeloom.core.planning.plan import Plan

#: A layout that is quicker by this share of a step is worth a hint.
_MUCH = 0.1


def describe_plan(plan: Plan) -> str:
    """The plan in a few lines for the log."""
    config, sizes = plan.config, plan.stage_parameters()
    by_stage = plan.model.stage_blocks(plan.split)
    flops = [sum(block.cost.of(plan.batch).flops for block in blocks) for blocks in by_stage]
    stages = "; ".join(
        f"stage {number}: {blocks[0].name}"
        + (f"..{blocks[-1].name}" if len(blocks) > 1 else "")
        + f" ({size / 1e6:.2f} M, {work / (sum(flops) or 1.0):.0%} of the FLOPs)"
        for number, (blocks, size, work) in enumerate(zip(by_stage, sizes, flops))
    )
    return "\n".join(
        [
            f"model      {plan.model.name}, {plan.model.size / 1e6:.2f} M parameters in {len(plan.model.blocks)} "
            f"blocks, "
            f"{plan.model.flops(plan.batch) / plan.batch.tokens / 1e6:.1f} MFLOP a token",
            f"data       {plan.dataset.describe()}",
            *([f"evaluation {plan.evaluation.describe()}; {_evaluates(plan)}"] if plan.evaluation is not None else []),
            f"mesh       {plan.mesh} on {plan.cluster}",
            f"partition  {stages}; imbalance {imbalance(sizes):.0%} of parameters, {imbalance(flops):.0%} of FLOPs",
            *(
                f"placement  {line}" if number == 0 else f"           {line}"
                for number, line in enumerate(
                    [*plan.placement.grid().splitlines(), plan.placement.summary() + _tensor_groups(plan)]
                )
            ),
            f"traffic    {_describe_traffic(plan)}",
            f"batch      {config.train_global_batch_size} = {plan.micro_batch_size} a micro-batch x "
            f"{config.grad_acc_steps} micro-batches x {plan.mesh.data} data-parallel",
        ]
    )


def _evaluates(plan: Plan) -> str:
    when = "after the last step" if plan.config.eval_every is None else f"every {plan.config.eval_every} steps"
    return when if plan.goal.measured else f"{when}, with nothing to compare with, so no checkpoint is the best"


def _groups_across_nodes(plan: Plan) -> List[Tuple[int, ...]]:
    groups, node_of = plan.placement.tensor_groups(plan.mesh.tensor), plan.cluster.node_of
    return [group for group in groups if len({node_of(rank) for rank in group}) > 1]


def _tensor_groups(plan: Plan) -> str:
    if plan.mesh.tensor == 1:
        return ""
    return f"; tensor groups of {plan.mesh.tensor} {'across' if _groups_across_nodes(plan) else 'inside'} nodes"


def hints(plan: Plan) -> List[str]:
    """What works, and yet may not be what was meant; a line each."""
    config, lines, tensor = plan.config, [], plan.mesh.tensor
    if plan.mesh.pipeline > 1 and config.grad_acc_steps == 1:
        lines.append(
            "hint: with --grad_acc_steps 1 the stages take turns and nothing overlaps; "
            f"try --grad_acc_steps {2 * plan.mesh.pipeline}"
        )
    if config.shard != "none" and plan.mesh.data == 1:
        lines.append(f"hint: --shard {config.shard} spreads over data-parallel ranks, and there is one; leave it out")
    spread = _groups_across_nodes(plan)
    if spread:
        lines.append(
            f"warning: tensor groups lie across nodes (ranks {', '.join(map(str, spread[0]))}): every layer "
            f"all-reduces over the "
            f"slow network; a --tensor_parallel that divides the {plan.cluster.devices_per_node} devices of a node "
            f"avoids it"
        )
    filled = sorted(
        {-spec.shape[spec.tensor_dim] % tensor for spec in plan.model.parameters if spec.tensor_dim is not None} - {0}
    )
    if filled:
        lines.append(
            f"note: sizes that --tensor_parallel {tensor} does not divide (vocabulary {plan.dataset.vocab_size}) are "
            f"filled up "
            f"by {', '.join(map(str, filled))} rows of zeros that have no effect"
        )
    return lines + quicker(plan)


def quicker(plan: Plan) -> List[str]:
    """Return a hint where another layout is much quicker on the machines of ``--cluster``, by the cost model.

    Nothing where no machines are given, or where the strategy has weighed layouts itself.
    """
    config = plan.config
    if config.cluster_file is None or plan.reasons or plan.choices is None or plan.mesh.size == 1:
        return []
    from pipeloom.core.planning.machines import rank_room
    from pipeloom.core.planning.ranking import describe_candidate, flags_of
    from pipeloom.core.planning.searching import fits_in, search_of
    from pipeloom.core.planning.worth import layout_of, step_model

    search, known = search_of(config, plan.cluster, plan.choices.model, ())
    seconds = step_model(plan, known.machines).cost(layout_of(plan)).step
    found = search.best(1, fits_in(rank_room(known.machines), plan.choices.memory)).best
    if not found or found[0].seconds > seconds * (1 - _MUCH):
        return []
    best = found[0]
    return [
        f"hint: by {known.source} a step takes {seconds:.3g} s; {describe_candidate(best)} would take "
        f"{best.seconds:.3g} s: {flags_of(best)}"
    ]


def _describe_traffic(plan: Plan) -> str:
    """``between nodes ..., inside ...``: MB (10^6 bytes) of a step by reason, all pairs and both directions."""
    traffic = plan.traffic()
    crossing, whole = traffic.between_nodes(plan.placement).sums(), traffic.sums()
    names = {
        "hidden": "hidden states",
        "shared": "tied embedding",
        "gradients": "gradients",
        "tensor": "tensor parallel",
    }

    def amounts(sums: Mapping[str, float]) -> str:
        return ", ".join(f"{names[name]} {amount / 1e6:.1f}" for name, amount in sums.items() if amount) or "nothing"

    inside = {name: amount - crossing[name] for name, amount in whole.items()}
    return f"MB a step between nodes: {amounts(crossing)}; inside: {amounts(inside)}"


def imbalance(stage_weights: Sequence[float]) -> float:
    """Return the heaviest stage over the mean, less one: 0.0 is a perfect balance."""
    total = sum(stage_weights)  # nothing at all is balanced: a model may have no products, or no parameters
    return max(stage_weights) * len(stage_weights) / total - 1.0 if total else 0.0
