"""What the mathematics makes cross the link in one step, from the plan alone."""

from __future__ import annotations

from typing import Sequence

from pipeloom.core.commands.cli import parse
from pipeloom.core.host.builtin import use_builtin
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.traffic import Traffic
from pipeloom.plugins import TABLE

use_builtin(TABLE)


def plan_of(flags: Sequence[str], plugins: str, nproc_per_node: int = 2) -> Plan:
    """The plan that a job of two nodes with these flags has."""
    config, manager = parse(["--plugins", plugins, *flags, "--nnodes", "2", "--nproc_per_node", str(nproc_per_node)])
    return make_plan(config, manager)


def crossing(plan: Plan) -> Traffic:
    """Bytes of one step from node to node."""
    return plan.traffic().between_nodes(plan.placement)
