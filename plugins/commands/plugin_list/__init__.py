"""``entry.py plugins``: what plugins there are, what one has, whether it keeps the contract, what to install for it."""

from __future__ import annotations

import json
from typing import Any, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import Parser
from pipeloom.core.contract.commands import Command


def list_plugins(arguments: Sequence[str]) -> int:
    """Print the built-in and the installed plugins, or what is asked of one; returns the exit code."""
    options = _parser().parse_args(list(arguments))
    asked = [name for name in ("check", "hooks", "requirements") if getattr(options, name) not in (None, False)]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]}: ask one of them at a time")
    if options.names and asked != ["requirements"]:
        raise UsageError(f"unexpected argument '{options.names[0]}': --help says what 'plugins' takes")
    if options.checkpoint is not None and asked != ["requirements"]:
        raise UsageError("--checkpoint says of what --requirements are: give that too")
    if options.check is not None:
        return _check(options)
    if options.hooks is not None:
        from pipeloom.plugins.commands.plugin_list.description import describe_hooks, description_of

        return _say(options, description_of(options.hooks), describe_hooks)
    if options.requirements:
        from pipeloom.plugins.commands.plugin_list.requirements import describe_requirements, required

        return _say(options, required(options.names, options.checkpoint), describe_requirements)
    from pipeloom.plugins.commands.plugin_list.listing import all_described, describe_plugins

    print(json.dumps(all_described(), indent=1) if options.json else describe_plugins())
    return 0


def _parser() -> Parser:
    parser = Parser(prog="entry.py plugins", description="What plugins there are: built in, installed, always there.")
    add = parser.add_argument
    add("--check", metavar="NAME", help="load a plugin and hold it to the contract; exit code 1 where it breaks it")
    add("--hooks", metavar="NAME", help="which hooks a plugin has, and where in its file")
    add(
        "--requirements",
        action="store_true",
        help="what pip must install elsewhere for the plugins NAMES, or for --checkpoint",
    )
    add("--checkpoint", metavar="PATH", help="a checkpoint (also RUN@best, RUN@last, RUN@120) or a run directory")
    add("--json", action="store_true", help="the same for programs")
    add("names", nargs="*", metavar="NAMES", help="plugins for --requirements, with spaces or commas between them")
    return parser


def _check(options: Any) -> int:
    from pipeloom.plugins.commands.plugin_list.checks import WRONG, check_plugin, describe_findings

    findings = check_plugin(options.check)
    _say(
        options,
        {"plugin": options.check, "findings": [vars(one) for one in findings]},
        lambda _: describe_findings(options.check, findings),
    )
    return int(any(one.state == WRONG for one in findings))


def _say(options: Any, content: Any, text_of: Any) -> int:
    print(json.dumps(content, indent=1) if options.json else text_of(content))
    return 0


COMMAND = Command("plugins", "list built-in and installed plugins and what they provide", list_plugins)
