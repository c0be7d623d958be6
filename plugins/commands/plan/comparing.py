"""Several plans side by side."""

from __future__ import annotations

from typing import Callable, List, Sequence, Tuple

from pipeloom.plugins.commands.plan.planned import Planned

_ROWS: Tuple[Tuple[str, Callable[[Planned], str]], ...] = (
    ("mesh", lambda one: str(one.plan.mesh)),
    ("blocks", lambda one: "+".join(map(str, one.plan.split))),
    ("micro-batches", lambda one: f"{one.plan.config.grad_acc_steps} of {one.plan.micro_batch_size}"),
    ("seconds a step", lambda one: f"{one.worth.seconds:.4g}"),
    ("samples a second", lambda one: f"{one.worth.samples_per_second:.4g}"),
    ("MFU", lambda one: f"{one.worth.mfu:.1%}"),
    ("bubble, s", lambda one: f"{one.worth.terms.get('bubble', 0.0):.3g}"),
    ("hidden states, s", lambda one: f"{one.worth.terms.get('hidden states', 0.0):.3g}"),
    ("gradients, s", lambda one: f"{one.worth.terms.get('gradients', 0.0):.3g}"),
    ("MB between nodes", lambda one: f"{_crossing(one) / 1e6:.1f}"),
    ("largest rank, GB", lambda one: f"{max(memory.total for memory in one.worth.memory) / 1e9:.2f}"),
    ("fits", lambda one: "yes" if one.worth.fits else "no"),
)


def compare_lines(plans: Sequence[Planned]) -> List[str]:
    """Return a table with a column for each plan, and which is the quickest that fits."""
    table = [["", *(one.name for one in plans)]]
    table += [[title, *(figure(one) for one in plans)] for title, figure in _ROWS]
    widths = [max(len(row[column]) for row in table) for column in range(len(plans) + 1)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    fitting = [one for one in plans if one.worth.fits]
    if not fitting:
        return [*lines, "none of them fits"]
    best = min(fitting, key=lambda one: one.worth.seconds / one.plan.batch.samples)
    return [*lines, f"the quickest for a sample that fits: {best.name}"]


def _crossing(one: Planned) -> float:
    return sum(one.plan.traffic().between_nodes(one.plan.placement).sums().values())
