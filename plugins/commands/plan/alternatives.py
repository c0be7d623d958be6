"""``plan --search``: all layouts of a job that fit, ranked, the best of each kind, and why the others lose."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Dict, List

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.cost.search import LayoutCandidate, Search, SearchResult, kind_of
from pipeloom.core.planning.ranking import describe_candidate, flags_of, why_slower
from pipeloom.core.planning.searching import fits_in, search_of
from pipeloom.core.planning.tied_weights import carry_shared
from pipeloom.plugins.commands.plan.planned import Planned
from pipeloom.plugins.commands.plan.text import plan_lines
from pipeloom.plugins.libraries.layout_search import placed


@dataclass(frozen=True)
class Alternatives:
    """State what a search found: the layouts, and ``best``, the job planned with the quickest."""

    planned: Planned
    search: Search
    found: SearchResult
    kinds: List[LayoutCandidate]
    seconds: float
    best: Planned

    @classmethod
    def of(cls, planned: Planned, count: int) -> Alternatives:
        """Search the layouts of ``planned``'s job. Raises ``UsageError`` where none fits."""
        began = time.monotonic()
        plan = planned.plan
        assert plan.choices is not None  # a plan of make_plan has them
        search, _ = search_of(planned.config, plan.cluster, plan.choices.model)
        fits = fits_in(planned.worth.room, plan.choices.memory)
        found = search.best(count, fits)
        if not found.best:
            why = "fits" if found.unfit else "divides the batch and the devices with the options that are given"
            raise UsageError(f"no layout of this job {why}: take more devices, another batch, or leave options out")
        kinds = search.best_of_each_kind(fits)
        seconds = time.monotonic() - began
        return cls(planned, search, found, kinds, seconds, chosen(planned, found.best[0]))

    def lines(self) -> List[str]:
        """Return the ranking, the kinds and the best plan in lines."""
        found, best = self.found, self.found.best[0]
        rate = found.candidates / max(self.seconds, 1e-9)
        lines = [
            f"search     {found.candidates} layouts in {self.seconds:.2f} s ({rate:,.0f} a second), {found.played} "
            f"played through; those that fit, quickest first:"
        ]
        for number, one in enumerate(found.best, start=1):
            slower = f" (+{one.seconds / best.seconds - 1:.1%})" if number > 1 else ""
            lines.append(f"{number:>3}  {one.seconds:.4g} s{slower}  {describe_candidate(one)}")
        for one in found.unfit[:1]:
            if one.seconds < best.seconds:
                lines.append(f"     {one.seconds:.4g} s, which does not fit: {describe_candidate(one)}")
        lines.append("the best of each kind, and why it loses:")
        for one in self.kinds:
            why = "the best" if one.seconds == best.seconds else why_slower(self.search, best, one)
            lines.append(f"     {kind_of(one)}: {describe_candidate(one)}; {why}")
        lines.append(f"take it by  {flags_of(best)}")
        return [*lines, "", *plan_lines(self.best)]

    def content(self) -> Dict[str, Any]:
        """Return the same as JSON can have it."""
        return {
            "candidates": self.found.candidates,
            "played": self.found.played,
            "seconds": self.seconds,
            "best": [self._row(one) for one in self.found.best],
            "kinds": [self._kind(one) for one in self.kinds],
            "unfit": [self._row(one) for one in self.found.unfit[:10]],
        }

    def _kind(self, one: LayoutCandidate) -> Dict[str, Any]:
        why = why_slower(self.search, self.found.best[0], one)
        return {**self._row(one), "kind": kind_of(one), "why": why}

    def _row(self, one: LayoutCandidate) -> Dict[str, Any]:
        mesh = one.mesh
        return {
            "seconds": one.seconds,
            "mesh": [mesh.pipeline, mesh.data, mesh.tensor],
            "order": one.order,
            "split": list(one.layout.split),
            "options": dict(one.options),
            "text": describe_candidate(one),
            "flags": flags_of(one),
        }


def chosen(planned: Planned, candidate: LayoutCandidate) -> Planned:
    """Return the job planned with the layout of ``candidate``."""
    plan = planned.plan
    assert plan.choices is not None
    config = plan.config.replace(**candidate.options)
    placement = placed(plan.cluster, candidate.mesh, candidate.order)
    split = candidate.layout.split
    model = carry_shared(plan.choices.model, split, placement, plan.batch, candidate.mesh.tensor, config.tied_transfer)
    there = replace(plan, config=config, mesh=candidate.mesh, split=split, placement=placement, model=model, reasons=())
    return replace(planned, plan=there, worth=planned.evaluated(there))
