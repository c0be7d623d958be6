"""The command line: ``entry.py [train] --plugins a,b,c [flags]``, ``entry.py plugins``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from pipeloom import __version__
from pipeloom.core.base.devices import count_gpus
from pipeloom.core.base.errors import PipeloomError, UsageError, did_you_mean, is_no_home, shown
from pipeloom.core.base.output import open_closed_streams, printing
from pipeloom.core.base.variables import JOB, RANK_VARIABLES
from pipeloom.core.config import cluster_environment
from pipeloom.core.config import config as configs
from pipeloom.core.contract.arguments import Parser, no_such_home, normalize
from pipeloom.core.contract.hookspecs import ONE_ANSWER
from pipeloom.core.contract.options import Options
from pipeloom.core.host.builtin import BuiltinPlugins, builtin, use_builtin
from pipeloom.core.host.command_lookup import run_command
from pipeloom.core.host.plugin_manager import LEFT_OUT, PluginManager, hooks_of, load_plugin
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
) -> Tuple[configs.Config, PluginManager]:
    """Load the selected plugins and resolve the configuration. Raises ``UsageError``; ``--help`` exits.

    ``environment``: where a cluster's batch system may say what was not given. Of a command that is one node's part of
    a job.
    """
    return parse_run(arguments, environment)[:2]


def parse_run(
    arguments: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})
) -> Tuple[configs.Config, PluginManager, Optional[Any]]:
    """As ``parse``, and what ``--resume`` found (``core/checkpoint/resume.py``), ``None`` without it."""
    arguments = [normalize(argument) for argument in arguments]
    first = Parser(add_help=False)
    _add_general(first)
    selected, rest = first.parse_known_args(arguments)
    content = configs.read_yaml(selected.config) if selected.config else {}
    where = f"--config {selected.config}"
    names = _plugin_names(selected, content, where)
    whose = where if selected.plugins is None and selected.strategy is None else ""
    if selected.plugins is None and not content.get("plugins"):
        kept = _plugins_of_checkpoint(rest, content, selected.set or [])
        names, whose = _replace(kept, names) if kept else names, "--resume" if kept and not names else whose
    wants_help = any(argument in ("-h", "--help") for argument in rest)
    manager = PluginManager()
    try:
        manager.load(names or (_all_for_help() if wants_help else ()))
    except UsageError as error:
        raise UsageError(f"{whose}: {error}" if whose and names else str(error)) from error.__cause__

    options = manager.options()
    has_gpu = _peek(("device",), rest, content, selected.set or ())["device"] != "cpu" and count_gpus() > 0
    shown = manager.default_options(configs.resolve(options, names, has_gpu), options) if wants_help else {}
    parser = _full_parser(options, has_gpu, shown)
    flags = vars(parser.parse_args(rest))
    given = {
        option.name: option.parse(flags[option.name], f"--{option.name}") for option in options if option.name in flags
    }
    _check_aliases(flags, options, given)
    if not names:
        raise UsageError(
            "no plugins are selected: for instance --plugins inter_first,bert,wiki_ofrecord ('plugins' lists them)"
        )
    assigned = configs.parse_assignments(selected.set or [], options)
    for name in set(assigned) & set(given):
        if assigned[name] != given[name]:
            raise UsageError(f"'{name}' is given twice, as --{name} {given[name]} and --set {name}={assigned[name]}")
    sources = ((where, configs.flatten(content, options, where)), ("--set", assigned), *_flags(flags, given, options))
    config = configs.resolve(options, names, has_gpu, *sources)
    defaults = manager.default_options(config, options)
    said = {name: getattr(config, name) for name in config.given}
    resumed: Optional[Any] = None
    base: Dict[str, Any] = {}
    chosen: Set[str] = set()
    if config.resume is not None:
        from pipeloom.core.checkpoint import resume

        resumed = resume.find(config.resume, config.output_dir, names)
        if resumed.path is not None:
            base, chosen = resume.options_from(resume.Checkpoint(resumed.path), options, said)
    elif config.resume_allow is not None:
        raise UsageError("--resume_allow says what --resume may accept: give --resume too, or leave it out")
    carried = {name: base[name] for name in chosen & base.keys()}
    from_cluster = _from_cluster(environment, {**carried, **said})
    config = configs.resolve(
        options,
        names,
        has_gpu,
        *sources,
        environment=from_cluster,
        defaults=defaults,
        base=base,
        carried=chosen,
    )
    return config, manager, resumed


def _peek(
    names: Sequence[str], arguments: Sequence[str], content: Mapping[str, Any], assignments: Sequence[str]
) -> Dict[str, Any]:
    """The options ``names`` as the command gives them, in the file, by ``--set`` or by flag, each stronger than the one
    before.

    For what must be known before all options are: which there are depends on the plugins. Not checked yet.
    """
    said: Dict[str, Any] = {}
    for section in (content, *(inner for inner in content.values() if isinstance(inner, dict))):
        said.update((str(key).replace("-", "_"), value) for key, value in section.items())
    for assignment in assignments:
        path, _, value = assignment.partition("=")
        said[path.strip().replace("-", "_").rpartition(".")[2]] = value.strip()
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for name in names:
        parser.add_argument(f"--{name}")
    said.update(vars(parser.parse_known_args(arguments)[0]))
    return {name: said.get(name) if isinstance(said.get(name), str) else None for name in names}


def _plugins_of_checkpoint(
    arguments: Sequence[str], content: Mapping[str, Any], assignments: Sequence[str]
) -> List[str]:
    """The plugins of the checkpoint that --resume names, for a command that selects none."""
    path, output_dir = _peek(("resume", "output_dir"), arguments, content, assignments).values()
    if path is None or (path == "auto" and output_dir is None):
        return []
    from pipeloom.core.checkpoint import resume

    resumed = resume.find(path, output_dir, ())
    return list(resume.Checkpoint(resumed.path).manifest.plugins) if resumed.path is not None else []


def _replace(names: Sequence[str], others: Sequence[str]) -> List[str]:
    """``names`` with ``others`` in the place of those that answer the same: a run that goes on by another strategy."""
    if not others:
        return list(names)
    answers: Dict[str, Set[str]] = {}
    for name in (*names, *others):
        is_left_out = name.startswith(LEFT_OUT)
        answers[name] = set() if is_left_out else ONE_ANSWER.keys() & set(hooks_of(load_plugin(name)[0]))
    taken: Set[str] = set().union(*(answers[name] for name in others))
    return [*(name for name in names if name not in others and not answers[name] & taken), *others]


def _from_cluster(environment: Mapping[str, str], given: Mapping[str, Any]) -> Dict[str, Any]:
    """What Slurm says of options that no command of the run gave; printed by the launcher."""
    if "RANK" in environment:
        return {}  # a rank of another launcher, which has said everything
    taken = cluster_environment.options_from_slurm(environment, given)
    if taken:
        print(cluster_environment.describe(taken), flush=True)
    return taken


def _plugin_names(selected: argparse.Namespace, content: Dict[str, Any], where: str) -> List[str]:
    """The plugins by flags, else by the file. Raises ``UsageError`` when the file has something else than names
    there.
    """
    listed = content.get("plugins") or [] if selected.plugins is None else selected.plugins
    if isinstance(listed, str):
        listed = listed.split(",")
    strategy = selected.strategy or content.get("strategy")
    for key, values in (("plugins", listed), ("strategy", [strategy or ""])):
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, (str, int)) for value in values):
            raise UsageError(
                f"{where}: '{key}' must be {'names' if key == 'plugins' else 'a name'}, not {shown(content[key])}"
            )
    names = [str(name).strip() for name in listed if str(name).strip()]
    if strategy and strategy not in names:
        names.append(str(strategy))
    return names


def _all_for_help() -> List[str]:
    """One plugin of each kind, so that a bare ``--help`` shows the options that a usual run has."""
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


def _flags(flags: Mapping[str, Any], given: Mapping[str, Any], options: Options) -> List[Tuple[str, Dict[str, Any]]]:
    """What flags give as sources: those under their own names, and by themselves those under other names."""
    other = {
        option.name: alias
        for option in options
        for alias in option.aliases
        if alias in flags and option.name not in flags
    }
    own = {name: value for name, value in given.items() if name not in other}
    return [(configs.FLAGS, own), *((f"--{alias}", {name: given[name]}) for name, alias in other.items())]


def _check_aliases(flags: Dict[str, Any], options: Options, given: Dict[str, Any]) -> None:
    for option in options:
        for alias in option.aliases:
            if alias in flags:
                value = option.parse(flags[alias], f"--{alias}")
                if given.setdefault(option.name, value) != value:
                    raise UsageError(
                        f"--{option.name} {given[option.name]} and --{alias} {value} are the same quantity: give one, "
                        f"or equal values"
                    )
