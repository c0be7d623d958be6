"""PlanAnswer ``plan``: one plan, several of them, or a search, with what is asked for besides."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.commands.plan.content import content_of
from pipeloom.plugins.commands.plan.planned import Planned
from pipeloom.plugins.commands.plan.text import plan_lines, room_lines


@dataclass
class PlanAnswer:
    """What to print: ``lines`` for people, ``content`` as JSON."""

    lines: List[str] = field(default_factory=list)
    content: Dict[str, Any] = field(default_factory=dict)


def answer(options: argparse.Namespace, rest: Sequence[str]) -> PlanAnswer:
    """Return what ``options`` ask of the job that ``rest`` describes. Raises ``UsageError`` for what does not fit."""
    if options.explain:
        return _explanation(options, rest)
    if options.compare:
        return _comparison(options, rest)
    planned = Planned.of(rest)
    if options.search:
        return _search(options, planned)
    found = PlanAnswer(plan_lines(planned) + room_lines(planned), content_of(planned))
    if options.what_if:
        from pipeloom.plugins.commands.plan.what_if import what_if

        lines, rows = what_if(planned)
        found.lines += ["", *lines]
        found.content["what_if"] = rows
    _draw(options, planned, found)
    return found


def _search(options: argparse.Namespace, planned: Planned) -> PlanAnswer:
    from pipeloom.plugins.commands.plan.alternatives import Alternatives

    alternatives = Alternatives.of(planned, options.top)
    found = PlanAnswer(alternatives.lines(), {**content_of(alternatives.best), "search": alternatives.content()})
    if options.measure:
        from pipeloom.plugins.commands.plan.measuring import measure_layouts

        lines, rows = measure_layouts(alternatives, options.measure)
        found.lines += ["", *lines]
        found.content["measured"] = rows
    _draw(options, alternatives.best, found)
    return found


def _comparison(options: argparse.Namespace, rest: Sequence[str]) -> PlanAnswer:
    from pipeloom.plugins.commands.plan.comparing import compare_lines

    if "--config" in rest:
        raise UsageError("--compare names the configurations: leave --config out")
    plans = [Planned.of([*rest, "--config", file], name=file) for file in options.compare]
    return PlanAnswer(compare_lines(plans), {"plans": {one.name: content_of(one) for one in plans}})


def _explanation(options: argparse.Namespace, rest: Sequence[str]) -> PlanAnswer:
    from pipeloom.plugins.commands.plan.explaining import explain

    lines, content = explain(rest, *options.explain)
    return PlanAnswer(lines, content)


def _draw(options: argparse.Namespace, planned: Planned, found: PlanAnswer) -> None:
    if options.html or options.png:
        from pipeloom.plugins.commands.plan.drawing import write_page, write_picture

        if options.html:
            write_page(options.html, found.content)
            found.lines.append(f"page       {options.html}")
        if options.png:
            write_picture(options.png, found.content)
            found.lines.append(f"picture    {options.png}")
