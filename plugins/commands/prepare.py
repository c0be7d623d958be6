"""``entry.py prepare KIND ...``: from raw data to training data, by kinds that plugins add."""

from __future__ import annotations

from typing import List, Sequence

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command, PrepareKind
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.command_lookup import all_prepare_kinds, find_prepare_kind, split_selection


def prepare_command(arguments: Sequence[str]) -> int:
    """Prepare something and return the exit code. Raises ``UsageError`` for a command that makes no sense."""
    selected, others = split_selection([normalize(argument) for argument in arguments])
    name, rest = (others[0], others[1:]) if others else ("", [])
    if name in ("-h", "--help"):
        print("\n".join(_overview(selected)))
        return 0
    kind = find_prepare_kind(name, selected) if name else None
    if kind is None:
        known = builtin().prepare_kinds
        raise UsageError(
            f"'prepare' needs one of {', '.join(known)}{did_you_mean(name, known)}; 'prepare --help' says what they do"
        )
    parser = Parser(prog=f"entry.py prepare {name}", description=kind.value.help)
    kind.call(f"its kind '{name}' of 'prepare'", _declare, kind.value, parser)
    options = parser.parse_args(rest)
    options.plugins = selected
    return kind.exit_code(f"its kind '{name}' of 'prepare'", kind.value.run, options)


def _declare(kind: PrepareKind, parser: Parser) -> None:
    kind.add_arguments(parser)
    parser.add_argument("--plugins", metavar="A,B,C", help="plugins that add kinds: by name, module.path or ./file.py")


def _overview(selected: Sequence[str]) -> List[str]:
    lines = ["usage: entry.py prepare WHAT ...", "", "From raw text to training data:"]
    lines += [f"  {kind.name:<12} {kind.help}" for kind in all_prepare_kinds(selected)]
    return [*lines, "", "'entry.py prepare WHAT --help' says how."]


COMMAND = Command("prepare", "from raw data to training data", prepare_command)
