"""From what a user asks for to the resolved configuration: one way, for the command line and for Python."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from pipeloom.core.base.devices import count_gpus
from pipeloom.core.base.errors import UsageError, did_you_mean, shown
from pipeloom.core.config import config as configs
from pipeloom.core.contract.hookspecs import ONE_ANSWER
from pipeloom.core.contract.options import Options
from pipeloom.core.host.plugin_manager import LEFT_OUT, PluginManager, hooks_of, load_plugin
from pipeloom.core.host.tracing import OPTION, Trace


class Resolved(NamedTuple):
    """The configuration of a run, its plugins, and what ``--resume`` found, ``None`` without it."""

    config: configs.Config
    plugins: PluginManager
    resumed: Optional[Any]


class Request:
    """What a user asks for, here from Python: options by name, a file, and a selection of plugins.

    ``plugins`` and ``strategy`` are ``None`` where nothing is said of them; ``file`` is the YAML file of ``--config``,
    ``assignments`` are those of ``--set``.
    """

    def __init__(
        self,
        plugins: Any = None,
        strategy: Optional[str] = None,
        file: Optional[str] = None,
        assignments: Sequence[str] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.plugins, self.strategy, self.file, self.assignments = plugins, strategy, file, list(assignments)
        self._options = {name: _plain(value) for name, value in options.items()}

    def early(self, names: Sequence[str]) -> Dict[str, Any]:
        """Return those of the options ``names`` that are given, not checked; before it is known which there are."""
        return {name: self._options[name] for name in names if name in self._options}

    def values(self, options: Options, plugins: PluginManager, names: Sequence[str], has_gpu: bool) -> Dict[str, Any]:
        """Return what is given, not checked, by the name that it was given by, of ``options``, which there are.

        Raises ``UsageError`` for others.
        """
        for name in self._options:
            if name not in options:
                raise UsageError(f"no option '{name}'{did_you_mean(name, options.names())}")
        return self._options

    @property
    def plugins_without_any(self) -> Sequence[str]:
        """The plugins to load where none are selected; the request ends in an error then."""
        return ()

    def selected(self, content: Mapping[str, Any]) -> List[str]:
        """Return the plugins by this request, else by ``content``, the file. Raises ``UsageError`` for what is no
        name."""
        listed = content.get("plugins") or [] if self.plugins is None else self.plugins
        if isinstance(listed, str):
            listed = listed.split(",")
        strategy = self.strategy or content.get("strategy")
        for key, values in (("plugins", listed), ("strategy", [strategy or ""])):
            if not isinstance(values, (list, tuple)) or not all(isinstance(value, (str, int)) for value in values):
                where = f"{self.where_of_file}: " if key in content and self.plugins is None else ""
                raise UsageError(
                    f"{where}'{key}' must be {'names' if key == 'plugins' else 'a name'}, not "
                    f"{shown(content.get(key, values))}"
                )
        names = [str(name).strip() for name in listed if str(name).strip()]
        if strategy and strategy not in names:
            names.append(str(strategy))
        return names

    @property
    def where_of_file(self) -> str:
        """How messages call the file."""
        return f"--config {self.file}"


def _plain(value: Any) -> Any:
    """``value`` as an option takes it: a path as text, numpy's numbers as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def resolve_request(request: Request, environment: Mapping[str, str] = MappingProxyType({})) -> Resolved:
    """Load the selected plugins and resolve the configuration. Raises ``UsageError``.

    ``environment``: where a cluster's batch system may say what was not given. Of a command that is one node's part of
    a job.
    """
    content = configs.read_yaml(request.file) if request.file else {}
    names, manager = load_selected(request, content)
    early = _early(("device", OPTION), request, content)
    if isinstance(early[OPTION], str) and early[OPTION] and names:
        manager.trace_to(Trace.open(early[OPTION], environment))
    options = manager.options()
    has_gpu = early["device"] != "cpu" and count_gpus() > 0
    said = request.values(options, manager, names, has_gpu)
    given = {
        option.name: option.parse(said[option.name], f"--{option.name}") for option in options if option.name in said
    }
    _check_aliases(said, options, given)
    if not names:
        raise UsageError(
            "no plugins are selected: for instance --plugins inter_first,bert,wiki_ofrecord ('plugins' lists them)"
        )
    assigned = configs.parse_assignments(request.assignments, options)
    for name in set(assigned) & set(given):
        if assigned[name] != given[name]:
            raise UsageError(f"'{name}' is given twice, as --{name} {given[name]} and --set {name}={assigned[name]}")
    where = request.where_of_file
    sources = [(where, configs.flatten(content, options, where)), ("--set", assigned), *_sources(said, given, options)]
    return _with_resumed(manager, options, names, has_gpu, sources, environment)


def _with_resumed(
    manager: PluginManager,
    options: Options,
    names: Sequence[str],
    has_gpu: bool,
    sources: Sequence[Tuple[str, Mapping[str, Any]]],
    environment: Mapping[str, str],
) -> Resolved:
    """Merge ``sources`` with the plugins' defaults, what the cluster says, and the run that ``--resume`` names."""
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
    from_cluster = _from_cluster(manager, environment, {**carried, **said}, options)
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
    return Resolved(config, manager, resumed)


def load_selected(request: Request, content: Mapping[str, Any]) -> Tuple[List[str], PluginManager]:
    """Return names and host of the plugins of a request, of its file or of the run that it resumes: none where none
    are selected."""
    names = request.selected(content)
    whose = request.where_of_file if request.plugins is None and request.strategy is None else ""
    if request.plugins is None and not content.get("plugins"):
        kept = _plugins_of_checkpoint(request, content)
        names, whose = _replace(kept, names) if kept else names, "--resume" if kept and not names else whose
    manager = PluginManager()
    try:
        manager.load(names or request.plugins_without_any)
    except UsageError as error:
        raise UsageError(f"{whose}: {error}" if whose and names else str(error)) from error.__cause__
    return names, manager


def _early(names: Sequence[str], request: Request, content: Mapping[str, Any]) -> Dict[str, Any]:
    """The options ``names`` as the request gives them, in the file, by ``--set`` or by themselves, each stronger than
    the one before.

    For what must be known before all options are: which there are depends on the plugins. Not checked yet.
    """
    said: Dict[str, Any] = {}
    for section in (content, *(inner for inner in content.values() if isinstance(inner, dict))):
        said.update((str(key).replace("-", "_"), value) for key, value in section.items())
    for assignment in request.assignments:
        path, _, value = assignment.partition("=")
        said[path.strip().replace("-", "_").rpartition(".")[2]] = value.strip()
    said.update(request.early(names))
    return {name: said.get(name) if isinstance(said.get(name), str) else None for name in names}


def _plugins_of_checkpoint(request: Request, content: Mapping[str, Any]) -> List[str]:
    """The plugins of the checkpoint that --resume names, for a request that selects none."""
    path, output_dir = _early(("resume", "output_dir"), request, content).values()
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


def _from_cluster(
    manager: PluginManager, environment: Mapping[str, str], given: Mapping[str, Any], options: Options
) -> Dict[str, Any]:
    """What a batch system says of options that no command of the run gave; printed by the launcher."""
    if not environment or "RANK" in environment:
        return {}  # another command, or a rank of another launcher, which has said everything
    source, taken = manager.cluster_options(environment, given, options)
    if taken:
        listed = " ".join(f"--{name} {value}" for name, value in taken.items())
        print(f"pipeloom: from {source}: {listed}", flush=True)
    return taken


def _sources(said: Mapping[str, Any], given: Mapping[str, Any], options: Options) -> List[Tuple[str, Dict[str, Any]]]:
    """What is given as sources: under the options' own names, and by themselves those under other names."""
    other = {
        option.name: alias
        for option in options
        for alias in option.aliases
        if alias in said and option.name not in said
    }
    own = {name: value for name, value in given.items() if name not in other}
    return [(configs.FLAGS, own), *((f"--{alias}", {name: given[name]}) for name, alias in other.items())]


def _check_aliases(said: Mapping[str, Any], options: Options, given: Dict[str, Any]) -> None:
    for option in options:
        for alias in option.aliases:
            if alias in said:
                value = option.parse(said[alias], f"--{alias}")
                if given.setdefault(option.name, value) != value:
                    raise UsageError(
                        f"--{option.name} {given[option.name]} and --{alias} {value} are the same quantity: give one, "
                        f"or equal values"
                    )
