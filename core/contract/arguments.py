"""Command lines: argparse whose mistakes are one line, with a suggestion where a name is close."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, Callable, List, NoReturn, Sequence

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.options import FALSE, TRUE


def normalize(argument: str) -> str:
    """``--grad-acc-steps=4`` -> ``--grad_acc_steps=4``; values are left alone."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def no_such_home(arguments: Sequence[str]) -> UsageError:
    """The error about a path with ``~user`` in it, for which ``pathlib`` knows no home directory."""
    named = [name for argument in arguments for name in re.findall(r"(?:^|[=,])(~[^/,=]*)", argument)]
    unknown = next((name for name in named if os.path.expanduser(name) == name), "a path that begins with ~")
    return UsageError(f"{unknown}: there is no such user here, so it stands for no folder")


class Parser(argparse.ArgumentParser):
    """argparse that ends with one line, knows no abbreviations, and suggests close names."""

    #: Names to suggest from besides those that were added here.
    known: Sequence[str] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown:
            name = unknown[0].partition("=")[0]
            if not name.startswith("--"):
                raise UsageError(f"unexpected argument '{unknown[0]}'")
            close = did_you_mean(name[2:], [*self.known, *self._names()])
            raise UsageError(f"no option '{name}'{close.replace(chr(39), chr(39) + '--', 1)}")
        raise UsageError(message)

    def _names(self) -> List[str]:
        return [name[2:] for action in self._actions for name in action.option_strings if name.startswith("--")]


def boolean(text: str) -> bool:
    """The type of a flag that is ``true`` or ``false``."""
    if text.lower() not in TRUE | FALSE:
        raise argparse.ArgumentTypeError(f"must be true or false, not '{text}'")
    return text.lower() in TRUE


def at_least(low: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number not below ``low``."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {low}, not '{text}'")
        return value

    return whole_number
