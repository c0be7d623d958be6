"""A plan in words: what it is, what a step takes and why, what each rank holds, and what would fit."""

from __future__ import annotations

from typing import List, Optional

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.fitting import changes
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.ranking import stages_in_words
from pipeloom.core.planning.report import describe_plan, hints
from pipeloom.core.planning.worth import Evaluation, explain_memory
from pipeloom.plugins.commands.plan.planned import Planned

#: How many changes that would fit are told, and how many are tried for them.
_CHANGES, _TRIED = 3, 400


def plan_lines(planned: Planned) -> List[str]:
    """Return a plan in lines."""
    plan, worth = planned.plan, planned.worth
    machines = worth.machines
    lines = [describe_plan(plan), *plan.reasons]
    if len(plan.split) <= 16:
        lines.append(f"split      {stages_in_words(plan.model.blocks, plan.split)}")
    device = machines.device
    peak = device.peak_of(plan.config.precision == "amp")
    lines.append(
        f"machines   {machines.name}: {device.name}, {_rate(peak)} each, {device.memory / 1e9:.0f} GB"
        + (f", {machines.sharing:g} ranks share one" if machines.sharing > 1 else "")
        + f"; {planned.known.source}"
    )
    lines += [f"{'memory' if number == 0 else '':<11}{line}" for number, line in enumerate(memory_lines(worth))]
    lines += step_lines(worth)
    return lines + hints(plan)


def memory_lines(worth: Evaluation) -> List[str]:
    """Return what a rank of each stage holds, and why stages differ."""
    lines = []
    for stage, memory in enumerate(worth.memory):
        parts = sorted(memory.parts.items(), key=_second, reverse=True)
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts if size >= 5e6)
        lines.append(f"stage {stage}: {memory.total / 1e9:.2f} GB a rank of {worth.room / 1e9:.2f}: {listed}")
    return lines + explain_memory(worth.loads, worth.memory)


def step_lines(worth: Evaluation) -> List[str]:
    """Return the time of a step with its terms."""
    plan, seconds = worth.plan, worth.seconds
    tokens = plan.batch.tokens / seconds
    listed = ", ".join(f"{name} {one:.3g}" for name, one in worth.terms.items() if one >= 0.001 * seconds)
    lines = [
        f"step       {seconds:.3g} s: {worth.samples_per_second:.3g} samples/s, {tokens:,.0f} tokens/s, MFU "
        f"{worth.mfu:.1%}",
        f"           seconds of the busiest stage: {listed}",
    ]
    hidden = max(worth.cost.hidden)
    if hidden >= 0.001 * seconds:
        lines.append(f"           of the exchange of gradients {hidden:.3g} s are hidden by backward passes")
    return lines


def room_lines(planned: Planned) -> List[str]:
    """Return whether the plan fits, and if not the nearest changes that do, each with its price."""
    worth = planned.worth
    if worth.fits:
        return ["fits       yes"]
    most = max(one.total for one in worth.memory)
    lines = [f"fits       no: {most / 1e9:.2f} GB of {worth.room / 1e9:.2f} GB; what would fit:"]
    found = [f"           {flags}: {_price(worth, changed)}" for flags, changed in fitting_changes(planned)]
    return lines + (found or ["           nothing that was tried: take more devices, or a smaller model"])


def fitting_changes(planned: Planned, count: int = _CHANGES) -> "List[tuple[str, Evaluation]]":
    """Return the nearest changes of options that make a plan fit, with what they are worth."""

    def replan(options) -> Plan:
        return planned.changed(**options).plan

    found: List["tuple[str, Evaluation]"] = []
    for number, (flags, plan) in enumerate(changes(planned.plan, replan)):
        if number == _TRIED or len(found) == count:
            break
        worth = _evaluated(planned, plan)
        if worth is not None and worth.fits and not any(set(flags.split()) >= set(old.split()) for old, _ in found):
            found.append((flags, worth))
    return found


def _evaluated(planned: Planned, plan: Plan) -> Optional[Evaluation]:
    try:
        return planned.evaluated(plan)
    except UsageError:
        return None


def _price(before: Evaluation, after: Evaluation) -> str:
    most = max(one.total for one in after.memory)
    longer = before.samples_per_second / after.samples_per_second - 1
    return f"{most / 1e9:.2f} GB, {after.seconds:.3g} s a step ({longer:+.0%} for a sample)"


def _rate(flops: float) -> str:
    unit, size = ("TFLOP/s", 1e12) if flops >= 1e12 else ("GFLOP/s", 1e9)
    return f"{flops / size:.3g} {unit}"


def _second(entry) -> float:
    return entry[1]
