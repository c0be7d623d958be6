"""``entry.py plan``: what a job will do before it runs: layout, memory, bytes, the time of a step and its terms."""

from __future__ import annotations

import argparse
import json
import sys
from typing import List, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command

_USAGE = "entry.py plan [options of train] [--cluster cluster.yaml] [--search] [--json] [--html FILE] ..."


def _parser() -> Parser:
    parser = Parser(prog="entry.py plan", usage=_USAGE, description=__doc__, add_help=False)
    add = parser.add_argument
    add("--search", action="store_true", help="weigh all layouts that fit, and rank them")
    add("--top", type=int, default=10, metavar="N", help="how many layouts --search lists (default: 10)")
    add("--measure", type=int, metavar="N", help="with --search: run the best N for a few steps and rank them")
    add(
        "--compare",
        nargs="+",
        metavar="FILE",
        help="plan each of these files (as of --config)",
    )
    add("--explain", nargs=2, metavar="STRATEGY", help="when which of two strategies wins, as an inequality")
    add("--what_if", action="store_true", help="other schedules, networks and sizes of this cluster, by simulation")
    add("--json", action="store_true", help="print all of it as JSON")
    add("--html", metavar="FILE", help="write one page: placement, timeline, memory, alternatives")
    add("--png", metavar="FILE", help="write the picture of the placement and the timeline")
    return parser


def plan_command(arguments: Sequence[str]) -> int:
    """Plan, print what the arguments ask for, and return the exit code."""
    options, rest = _split(arguments)
    if {"-h", "--help"} & set(rest):
        print(_parser().format_help().rstrip())
        print("\nOther options are those of train ('entry.py train --help' with the same --plugins).")
        return 0
    from pipeloom.plugins.commands.plan import asked

    found = asked.answer(options, rest)
    if options.json:
        json.dump(found.content, sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        print("\n".join(found.lines))
    return 0


def _split(arguments: Sequence[str]) -> Tuple[argparse.Namespace, List[str]]:
    """Split off the options of this command; the rest are those of a training run."""
    parser = _parser()
    options, rest = parser.parse_known_args([normalize(argument) for argument in arguments])
    if options.top < 1 or (options.measure is not None and options.measure < 1):
        raise UsageError("--top and --measure are 1 or more")
    if options.measure is not None and not options.search:
        raise UsageError("--measure runs the best layouts of a search: give --search too")
    return options, rest


COMMAND = Command("plan", "what a job will do and how fast, before it runs", plan_command)
