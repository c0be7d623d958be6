"""``plan --search``: all layouts of a job that fit, ranked, the best of each kind, and why the others lose."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Dict, List

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.cost.search import LayoutCandidate, Search, SearchResult, kind_of
from pipeloom.core.planning.ranking import describe_candidate, flags_of, why_slower
from pipeloom.plugins.commands.plan.planned import Planned
from pipeloom.plugins.commands.plan.text import plan_lines
from pipeloom.plugins.libraries.layout_search import fits_in, search_of


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
        search, _ = search_of(planned.config, plan.cluster, uncarried(planned))
        fits = fits_in(planned.worth.room, stage_memory_of(planned))
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


def uncarried(planned: Planned):
    """Return the model of a job before it was decided how a tied table is carried."""
    from pipeloom.core.host.task_choice import find_task

    config, plugins = planned.plan.config, planned.plugins
    task = find_task(plugins, config, planned.plan.model.task)
    return plugins.hook.pipeloom_build_model(config=config, task=task)


def stage_memory_of(planned: Planned):
    """Return what says how much memory other layouts of the same job take, by stage."""
    from dataclasses import replace

    from pipeloom.core.contract.placement import Placement
    from pipeloom.core.planning.memory import stage_loads
    from pipeloom.core.planning.tied_weights import with_copies

    plan, plugins, model = planned.plan, planned.plugins, uncarried(planned)
    copied, nowhere = with_copies(model), Placement(plan.cluster, ())
    executor = plugins.hook.pipeloom_executor(config=plan.config)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=plan.config, parameters=list(model.parameters))

    def memory(mesh, split, options):
        config = plan.config.replace(**options)
        carried = copied if config.tied_transfer == "table" and mesh.pipeline > 1 else model
        there = replace(plan, config=config, mesh=mesh, split=tuple(split), model=carried, placement=nowhere)
        return [executor.memory(load) for load in stage_loads(there, optimizer)]

    return memory


def chosen(planned: Planned, candidate: LayoutCandidate) -> Planned:
    """Return the job planned with the layout of ``candidate``."""
    from dataclasses import replace

    from pipeloom.core.contract.blocks import BatchSize
    from pipeloom.core.planning.tied_weights import carry_shared
    from pipeloom.plugins.libraries.layout_search import placed

    plan = planned.plan
    config = plan.config.replace(**candidate.options)
    placement = placed(plan.cluster, candidate.mesh, candidate.order)
    batch = BatchSize.of(config.train_global_batch_size, config.seq_length)
    model = carry_shared(
        uncarried(planned), candidate.layout.split, placement, batch, candidate.mesh.tensor, config.tied_transfer
    )
    there = replace(
        plan, config=config, mesh=candidate.mesh, split=candidate.layout.split, placement=placement, model=model,
        reasons=(),
    )  # fmt: skip
    return replace(planned, plan=there, worth=planned.evaluated(there))
