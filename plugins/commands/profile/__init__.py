"""``entry.py profile``: measures this cluster and writes ``cluster.yaml``, for ``plan`` and the strategy ``auto``."""

from __future__ import annotations

import argparse
from typing import List, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command

_USAGE = "entry.py profile --output cluster.yaml [--nnodes N --nproc_per_node N --node_rank K ...] [--rows N]"


def _parser() -> Parser:
    parser = Parser(prog="entry.py profile", usage=_USAGE, description=__doc__, add_help=False)
    add = parser.add_argument
    add("--output", metavar="FILE", help="where to write what was measured")
    add("--rows", type=int, default=8, metavar="N", help="layouts to run for the constants, 1 to 10 (default: 8)")
    add("--name", metavar="TEXT", help="what to call the cluster")
    return parser


def profile_command(arguments: Sequence[str]) -> int:
    """Measure, print what was found, write the file, and return the exit code."""
    options, rest = _split(arguments)
    if {"-h", "--help"} & set(rest):
        print(_parser().format_help().rstrip())
        print("\nOther options are those of train; a model that is given is measured, else a small BERT.")
        return 0
    if options.output is None:
        raise UsageError("profile needs --output FILE, where to write what it measures")
    if not 1 <= options.rows <= 10:
        raise UsageError("--rows is 1 to 10")
    from pipeloom.plugins.commands.profile.profiling import profile_cluster

    return profile_cluster(options, rest)


def _split(arguments: Sequence[str]) -> Tuple[argparse.Namespace, List[str]]:
    return _parser().parse_known_args([normalize(argument) for argument in arguments])


COMMAND = Command("profile", "measure this cluster, and write cluster.yaml", profile_command)
