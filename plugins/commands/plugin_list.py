"""``entry.py plugins``: what plugins there are."""

from __future__ import annotations

from typing import Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.commands import Command


def list_plugins(arguments: Sequence[str]) -> int:
    """Print the built-in and the installed plugins; takes no arguments."""
    if arguments:
        raise UsageError(f"'plugins' takes no arguments, got '{arguments[0]}'")
    from pipeloom.core.host.listing import describe_plugins

    print(describe_plugins())
    return 0


COMMAND = Command("plugins", "list built-in and installed plugins and what they provide", list_plugins)
