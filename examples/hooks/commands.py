"""A command: ``entry.py add 2 3 --plugins ./examples/hooks/commands.py``."""

import pipeloom
from pipeloom.core.contract.arguments import Parser
from pipeloom.core.contract.commands import Command


def add(arguments):
    parser = Parser(prog="entry.py add", description="the sum of numbers")
    parser.add_argument("numbers", nargs="+", type=int)
    print(sum(parser.parse_args(arguments).numbers))
    return 0


@pipeloom.hookimpl
def pipeloom_commands():
    return [Command("add", "the sum of numbers", add)]
