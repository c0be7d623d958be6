"""``entry.py prepare KIND ...``: from raw data to training data, by kinds that plugins add."""

from __future__ import annotations

from importlib import import_module
from typing import List, Optional, Sequence

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command, PrepareKind
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.command_lookup import (
    Found,
    added_by,
    added_by_selected,
    installed_besides,
    split_selection,
    the_only,
)


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


def find_prepare_kind(name: str, selected: Sequence[str]) -> Optional[Found]:
    """Return the kind ``name`` of ``prepare``, ``None`` where there is none. Raises ``UsageError`` as for commands."""
    if name in builtin().prepare_kinds:
        return Found(import_module(builtin().prepare_kinds[name]).KIND)
    return the_only("kind of 'prepare'", name, "pipeloom_prepare_kinds", selected, builtin().prepare_kinds)


def all_prepare_kinds(selected: Sequence[str]) -> List[PrepareKind]:
    """Return all kinds of ``prepare``, built-in ones first. Raises ``UsageError`` for a selected plugin's fault."""
    ours = [import_module(module).KIND for module in builtin().prepare_kinds.values()]
    found = added_by_selected("pipeloom_prepare_kinds", selected)
    others = added_by("pipeloom_prepare_kinds", installed_besides(selected))[0]
    names = {kind.name for kind in ours}
    return ours + [one.value for one in (*found, *others) if one.value.name not in names]
