"""``entry.py prepare KIND ...``: from raw data to training data, by kinds that plugins add."""

from __future__ import annotations

from typing import List, Sequence

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.command_lookup import all_prepare_kinds, find_prepare_kind


def prepare_command(arguments: Sequence[str]) -> int:
    """Do it; returns the exit code. Raises ``UsageError`` for a command that makes no sense."""
    name, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if name in ("-h", "--help"):
        print("\n".join(_overview()))
        return 0
    kind = find_prepare_kind(name) if name else None
    if kind is None:
        known = builtin().prepare_kinds
        raise UsageError(
            f"'prepare' needs one of {', '.join(known)}{did_you_mean(name, known)}; 'prepare --help' says what they do"
        )
    parser = Parser(prog=f"entry.py prepare {name}", description=kind.help)
    kind.add_arguments(parser)
    return kind.run(parser.parse_args([normalize(argument) for argument in rest]))


def _overview() -> List[str]:
    lines = ["usage: entry.py prepare WHAT ...", "", "From raw text to training data:"]
    lines += [f"  {kind.name:<12} {kind.help}" for kind in all_prepare_kinds()]
    return [*lines, "", "'entry.py prepare WHAT --help' says how."]


COMMAND = Command("prepare", "from raw data to training data", prepare_command)
