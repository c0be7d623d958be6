"""``entry.py prepare WHAT ...``: one room for each WHAT.

Such a room is a module with ``SUMMARY`` (one line of help), ``add_arguments(parser)`` and ``run(options) -> exit
code``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, List, Sequence

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.arguments import Parser, normalize

#: What there is to prepare, and the module that does it.
ACTIONS: Dict[str, str] = {
    "pretraining": "pipeloom.plugins.datasets.wiki_ofrecord.prepare",
    "squad": "pipeloom.plugins.datasets.squad.prepare",
    "inspect": "pipeloom.plugins.prepare.inspect",
    "validate": "pipeloom.plugins.prepare.validate",
    "vocab": "pipeloom.plugins.prepare.vocab",
}


def prepare_command(arguments: Sequence[str]) -> int:
    """Do it; returns the exit code. Raises ``UsageError`` for a command that makes no sense."""
    action, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if action in ("-h", "--help"):
        print("\n".join(_overview()))
        return 0
    if action not in ACTIONS:
        raise UsageError(
            f"'prepare' needs one of {', '.join(ACTIONS)}{did_you_mean(action, ACTIONS)}; 'prepare --help' says what they do"
        )
    module: Any = import_module(ACTIONS[action])
    parser = Parser(prog=f"entry.py prepare {action}", description=module.SUMMARY)
    module.add_arguments(parser)
    return module.run(parser.parse_args([normalize(argument) for argument in rest]))


def _overview() -> List[str]:
    lines = ["usage: entry.py prepare WHAT ...", "", "From raw text to training data:"]
    lines += [f"  {name:<12} {import_module(module).SUMMARY}" for name, module in ACTIONS.items()]
    return [*lines, "", "'entry.py prepare WHAT --help' says how."]
