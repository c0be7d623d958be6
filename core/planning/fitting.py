"""Whether a job fits into the memory of a node, said before any rank starts, and what would fit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.free_memory import Room
from pipeloom.core.contract.rank_load import PredictedMemory
from pipeloom.core.planning.plan import Plan

#: The memory of all ranks by a plan; raises ``UsageError`` where that plan cannot be.
Estimate = Callable[[Plan], List[PredictedMemory]]
#: Ranks, and the room that they share.
Place = Tuple[Sequence[int], Room]
#: Changes that may be asked for together.
_TOGETHER = 3


class Need(NamedTuple):
    """Bytes that some ranks take together: ``likely``, and the ``least`` that it may turn out to be."""

    likely: float
    least: float

    @classmethod
    def of(cls, memories: Sequence[PredictedMemory]) -> Need:
        return cls(
            sum(memory.total for memory in memories),
            sum(memory.total * max(0.0, 1 - memory.error) for memory in memories),
        )


def check_memory(
    plan: Plan, places: Sequence[Place], estimate: Estimate, replan: Callable[[Dict[str, Any]], Plan]
) -> List[str]:
    """Return a line where the ranks of one of ``places`` may not fit into its room.

    It is never on the doubtful side: what does not fit even if as little is needed as may be is refused with
    ``UsageError`` (by ``--memory_check stop``). What may fit gets a warning, what fits as far as is known no line.
    ``replan(options)`` lays the job out anew, with more stages.
    """
    how = plan.config.memory_check
    if how == "off" or not places:
        return []
    memories = estimate(plan)
    ranks, room = max(
        places, key=lambda place: Need.of([memories[rank] for rank in place[0]]).likely / (place[1].free + 1)
    )
    need = Need.of([memories[rank] for rank in ranks])
    if need.likely <= room.free:
        return []
    does_not = need.least > room.free + room.swap
    line = (
        f"this job {'needs' if does_not else 'may need'} about {_gb(need.likely)} of memory here "
        f"({_by_rank(memories, ranks)}), and {room.limited_by} has {_gb(room.free)}"
        f"{f' and {_gb(room.swap)} of swap' if room.swap >= 1e8 else ''} free; "
        f"{_what_fits(plan, places, estimate, replan)}"
    )
    if does_not and how == "stop":
        raise UsageError(f"{line}; or try it all the same: --memory_check warn")
    return [f"warning: {line}"]


def _by_rank(memories: Sequence[PredictedMemory], ranks: Sequence[int]) -> str:
    """Return the ranks and what each takes; those that take the same together."""
    groups = [
        (text, [rank for _, rank in found])
        for text, found in itertools.groupby(
            ((f"{memories[rank].total / 1e9:.1f}", rank) for rank in ranks), key=_first
        )
    ]
    return ", ".join(
        f"rank{'s' if len(members) > 1 else ''} {'-'.join(map(str, sorted({members[0], members[-1]})))}: {text}"
        f"{' each' if len(members) > 1 else ''}"
        for text, members in groups
    )


def _first(pair: Tuple[str, int]) -> str:
    return pair[0]


def _what_fits(
    plan: Plan, places: Sequence[Place], estimate: Estimate, replan: Callable[[Dict[str, Any]], Plan]
) -> str:
    """Return the nearest change that fits, with its figure."""
    found: List[Tuple[float, str]] = []
    for flags, changed in changes(plan, replan):
        memories = estimate(changed)
        needs = [(sum(memories[rank].total for rank in ranks), room.free) for ranks, room in places]
        most = max(need for need, _ in needs)
        if all(need <= free for need, free in needs):
            return f"what would fit: {flags} ({_gb(most)})"
        found.append((most, flags))
    if not found:
        return "there is nothing left to spread; take more nodes, or a smaller model"
    least, flags = min(found)
    return f"{flags} would take it down to {_gb(least)}: take more nodes, or a smaller model"


def changes(plan: Plan, replan: Callable[[Dict[str, Any]], Plan]) -> Iterator[Tuple[str, Plan]]:
    """Yield ``(flags, plan)``: one change first, then two at once, and so on, those that change the least before."""
    single, laid_out = _single_changes(plan), {plan.mesh.pipeline: plan}
    for count in range(1, _TOGETHER + 1):
        for chosen in itertools.combinations(single, count):
            options = {name: value for one in chosen for name, value in one.items()}
            if len(options) < count or {"grad_acc_steps", "train_global_batch_size"} <= options.keys():
                continue  # two values of one option; or a micro-batch that is divided twice
            stages = options.get("nums_split", plan.mesh.pipeline)
            try:
                if stages not in laid_out:
                    laid_out[stages] = replan({"nums_split": stages})
            except UsageError:
                continue
            base = laid_out[stages]
            changed = replace(base, config=base.config.replace(**options))
            pieces = changed.mesh.data * changed.config.grad_acc_steps
            if not changed.config.train_global_batch_size % pieces:
                yield " ".join(f"--{name} {_text(value)}" for name, value in options.items()), changed


def _single_changes(plan: Plan) -> List[Dict[str, Any]]:
    config, found = plan.config, []  # type: Any, List[Dict[str, Any]]
    if config.save_every != 0 and config.async_save:
        found.append({"async_save": False})
    if plan.mesh.data > 1 and config.shard != "parameters":
        found += [{"shard": how} for how in ("optimizer", "parameters") if how != config.shard]
    if config.recompute == "none":
        found.append({"recompute": "full"})
    parts = [factor for factor in (2, 4, 8) if plan.micro_batch_size % factor == 0]
    found += [{"grad_acc_steps": config.grad_acc_steps * factor} for factor in parts]
    devices = plan.cluster.size // plan.mesh.tensor
    found += [
        {"nums_split": stages}
        for stages in range(plan.mesh.pipeline + 1, min(devices, len(plan.model.blocks)) + 1)
        if devices % stages == 0
    ]
    return found + [{"train_global_batch_size": config.train_global_batch_size // factor} for factor in parts]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
