"""``entry.py config``: the resolved configuration with the origin of each value, or a schema of all there can be."""

from __future__ import annotations

import json
from typing import List, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import normalize
from pipeloom.core.contract.commands import Command

_SCHEMA = "--schema"


def print_configuration(arguments: Sequence[str]) -> int:
    """Print what the options of a run come to, as YAML; with ``--schema`` the JSON schema; returns the exit code."""
    rest = [normalize(argument) for argument in arguments]
    if _SCHEMA in rest:
        rest.remove(_SCHEMA)
        print(json.dumps(_schema(rest), indent=1))
        return 0
    from pipeloom.core.commands.cli import parse  # it imports the table of commands
    from pipeloom.plugins.commands.configuration.origins_of_values import annotated

    if {"-h", "--help"} & set(rest):
        print(f"usage: entry.py config [{_SCHEMA}] [options of train]\n\n{__doc__}\n")
        return 0
    print(annotated(*parse(rest)))
    return 0


def _schema(arguments: List[str]) -> dict:
    from pipeloom.core.commands.cli import CommandLine
    from pipeloom.core.commands.request import load_selected
    from pipeloom.core.config.yaml_file import read_yaml
    from pipeloom.plugins.commands.configuration.schema import all_options, schema_of

    asked = CommandLine(arguments)
    if asked.further or asked.assignments:
        first = [*asked.further, "--set"][0]
        raise UsageError(f"config {_SCHEMA} takes --plugins, --strategy and --config, and no '{first}'")
    content = read_yaml(asked.file) if asked.file else {}
    if not asked.selected(content):
        return schema_of(all_options(), [])
    names, manager = load_selected(asked, content)
    return schema_of([list(manager.options())], names)


COMMAND = Command("config", "the resolved configuration and its origins; --schema for editors", print_configuration)
