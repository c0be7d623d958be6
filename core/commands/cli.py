"""The command line: ``entry.py [train] --plugins a,b,c [flags]``, ``entry.py plugins``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from pipeloom import __version__
from pipeloom.core.base.errors import PipeloomError, UsageError, did_you_mean, is_no_home
from pipeloom.core.base.output import open_closed_streams, printing
from pipeloom.core.base.variables import JOB, RANK_VARIABLES
from pipeloom.core.commands.request import Request, Resolved, resolve_request
from pipeloom.core.config.config import Config, resolve
from pipeloom.core.contract.arguments import Parser, no_such_home, normalize
from pipeloom.core.contract.hookspecs import ONE_ANSWER
from pipeloom.core.contract.options import Options
from pipeloom.core.host.builtin import BuiltinPlugins, builtin, use_builtin
from pipeloom.core.host.command_lookup import run_command
from pipeloom.core.host.plugin_manager import PluginManager, hooks_of, load_plugin
from pipeloom.core.launch.interpreter import begin_anew
from pipeloom.core.launch.network import forget_proxies
from pipeloom.core.launch.processes import own_command

DESCRIPTION = """Trains transformers with pipeline x data parallelism on OneFlow.

commands:
  train     (the default) train the model that --plugins select
{commands}

Ranks count separately: --node_rank numbers the machines, the local rank numbers the devices inside one."""


def main(argv: Optional[Sequence[str]] = None, plugins: Optional[BuiltinPlugins] = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (the run failed) or 2 (usage).

    ``plugins`` are the built-in ones; without it those of an earlier call.
    """
    if plugins is not None:
        use_builtin(plugins)
    open_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        begin_anew([*own_command(), *arguments])
    return printing(lambda: _ended(arguments))


def _ended(arguments: List[str]) -> int:
    try:
        return _dispatch_at_home(arguments)
    except PipeloomError as error:
        print(f"pipeloom: error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:  # while there was nothing to save yet
        return 128 + signal.SIGINT


def _dispatch_at_home(arguments: List[str]) -> int:
    try:
        return _dispatch(arguments)
    except RuntimeError as error:
        if not is_no_home(error):
            raise
        raise no_such_home(arguments) from None


def _dispatch(arguments: List[str]) -> int:
    if {"-V", "--version"} & set(arguments):
        print(f"pipeloom {__version__}")
        return 0
    command = arguments[0] if arguments and not arguments[0].startswith("-") else "train"
    if arguments and arguments[0] == command:
        arguments = arguments[1:]
    if command != "train":
        exit_code = run_command(command, arguments)
        if exit_code is None:
            known = ("train", *builtin().commands)
            close = did_you_mean(command, (*known, "--version", "--help"))
            raise UsageError(f"no command '{command}'{close}; there are: {', '.join(known)}")
        return exit_code
    if "RANK" in os.environ:  # of another launcher, perhaps; and before a plugin may import the engine
        forget_proxies()
    if all(name in os.environ for name in (*RANK_VARIABLES, JOB)):
        from pipeloom.core.commands.train import train_for
        from pipeloom.core.launch.job import Job

        return train_for(Job.from_environment(os.environ))
    config, plugins, resumed = parse_run(arguments, os.environ)
    from pipeloom.core.commands.train import train  # numpy and the data room: not needed for --help

    return train(config, plugins, arguments, resumed)


def parse(
    arguments: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})
) -> Tuple[Config, PluginManager]:
    """Load the selected plugins and resolve the configuration. Raises ``UsageError``; ``--help`` exits.

    ``environment``: where a cluster's batch system may say what was not given. Of a command that is one node's part of
    a job.
    """
    return parse_run(arguments, environment)[:2]


def parse_run(arguments: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Resolved:
    """As ``parse``, and what ``--resume`` found (``core/checkpoint/resume.py``), ``None`` without it."""
    return resolve_request(CommandLine(arguments), environment)


class CommandLine(Request):
    """What a user asks for by the arguments of a command."""

    def __init__(self, arguments: Sequence[str]) -> None:
        first = Parser(add_help=False)
        _add_general(first)
        selected, self._rest = first.parse_known_args([normalize(argument) for argument in arguments])
        super().__init__(selected.plugins, selected.strategy, selected.config, selected.set or [])

    @property
    def further(self) -> List[str]:
        """The arguments that are about options, and not about what is selected."""
        return self._rest

    @property
    def _wants_help(self) -> bool:
        return any(argument in ("-h", "--help") for argument in self._rest)

    @property
    def plugins_without_any(self) -> Sequence[str]:
        """For ``--help`` alone, so that it shows the options that a usual run has."""
        return one_of_each_kind() if self._wants_help else ()

    def early(self, names: Sequence[str]) -> Dict[str, Any]:
        """Return the flags ``names`` that are there."""
        parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
        for name in names:
            parser.add_argument(f"--{name}")
        return vars(parser.parse_known_args(self._rest)[0])

    def values(self, options: Options, plugins: PluginManager, names: Sequence[str], has_gpu: bool) -> Dict[str, Any]:
        """Return what the flags say. ``--help`` ends here."""
        defaults = plugins.default_options(resolve(options, names, has_gpu), options) if self._wants_help else {}
        return vars(_full_parser(options, has_gpu, defaults).parse_args(self._rest))


def one_of_each_kind() -> List[str]:
    """Return one plugin of each kind, the first of the table."""
    names: List[str] = []
    answered: Set[str] = set()
    for name in builtin().selectable:
        answers = ONE_ANSWER.keys() & hooks_of(load_plugin(name)[0])
        if not answers & answered:
            names.append(name)
            answered |= answers
    return names


def _add_general(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selection")
    group.add_argument("-V", "--version", action="version", version=__version__, help="print the version and exit")
    group.add_argument("--plugins", metavar="A,B,C", help="plugins by name, module.path or ./file.py")
    group.add_argument(
        "--strategy", metavar="NAME", help="another way to select a strategy plugin: intra_first or inter_first"
    )
    group.add_argument("--config", metavar="FILE.yaml", help="YAML file with options; flags override it")
    group.add_argument(
        "--set", action="append", metavar="KEY.PATH=VALUE", help="set one option by its place in the YAML file"
    )


def _full_parser(options: Options, has_gpu: bool, defaults: Mapping[str, Any]) -> Parser:
    commands = "\n".join(f"  {name:<9} {text}" for name, (_, text) in builtin().commands.items())
    description = DESCRIPTION.replace("{commands}", commands)
    parser = Parser(prog="entry.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.known = ["plugins", "strategy", "config", "set", *options.names()]
    _add_general(parser)
    for section in options.sections():
        group = parser.add_argument_group(section)
        for option in options:
            if option.section != section:
                continue
            default = option.cuda_default if has_gpu and option.cuda_default is not None else option.default
            default = defaults.get(option.name, default)
            text = option.help + (f" [{default}]" if default is not None else "")
            metavar = getattr(option.type, "metavar", option.type.__name__.upper())
            if option.choices:
                metavar = "{" + ",".join(map(str, option.choices)) + "}"
            group.add_argument(
                f"--{option.name}", metavar=metavar, default=argparse.SUPPRESS, help=text.replace("%", "%%")
            )
            for alias in option.aliases:
                group.add_argument(
                    f"--{alias}", metavar=metavar, default=argparse.SUPPRESS, help=f"the same as --{option.name}"
                )
    return parser
