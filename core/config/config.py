"""The resolved configuration: defaults, then the cluster's environment, the YAML file, ``--set``, and flags."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, Iterable, List, Mapping, Tuple

import yaml

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.config.yaml_file import read_yaml
from pipeloom.core.contract.options import FRESH, RESERVED, Option, Options

__all__ = ["Config", "flatten", "parse_assignments", "read_yaml", "resolve"]

#: What ``resolve`` calls the source of flags, each under its own name.
FLAGS = "flags"
#: How sources of options are called that are no part of the command line itself.
_FILE = "--config "


class Config:
    """Read-only values of all options, by attribute (``config.seq_length``).

    ``declared`` maps each name to its ``Option``. ``given`` names the options that the user set by this command,
    ``typed`` those of them that stand in the command line itself and not in a file, and ``carried`` those that an
    earlier command set of the run that is resumed. ``transient`` are those whose value holds for this process alone
    (its place in a Slurm job): they are not written into a file. ``origins`` says where values come from that were
    not given as the flag of that name (``core/config/origins.py``).
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        declared: Mapping[str, Option],
        plugins: Iterable[str],
        given: Iterable[str] = (),
        transient: Iterable[str] = (),
        typed: Iterable[str] = (),
        carried: Iterable[str] = (),
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.__dict__["_values"] = dict(values)
        self.__dict__["declared"] = dict(declared)
        self.__dict__["plugins"] = tuple(plugins)
        self.__dict__["given"] = frozenset(given)
        self.__dict__["transient"] = frozenset(transient)
        self.__dict__["typed"] = frozenset(typed)
        self.__dict__["carried"] = frozenset(carried)
        self.__dict__["origins"] = dict(origins)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"no option '{name}'{did_you_mean(name, self._values)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Config is read-only; use replace()")

    def replace(self, **changes: Any) -> "Config":
        """A copy with some values changed. Raises ``AttributeError`` for a name that is no option."""
        for name in changes:
            getattr(self, name)
        return Config(
            {**self._values, **changes},
            self.declared,
            self.plugins,
            self.given,
            self.transient,
            self.typed,
            self.carried,
            self.origins,
        )

    def to_dict(self) -> Dict[str, Any]:
        """``{"plugins": [...], section: {name: value}}``, in the form that ``--config`` reads."""
        result: Dict[str, Any] = {"plugins": list(self.plugins)}
        for name, value in self._values.items():
            option = self.declared[name]
            left_out = option.transient or name in self.transient
            result.setdefault(option.section, {})[name] = None if left_out else value
        return result

    def to_flat_dict(self) -> Dict[str, Any]:
        return dict(self._values)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def flatten(content: Mapping[str, Any], options: Options, where: str) -> Dict[str, Any]:
    """The option values in a YAML mapping; a key may stand in its section or at the top level.

    Raises ``UsageError`` with a suggestion for a key that is no option, and for one in a wrong section.
    """
    values: Dict[str, Any] = {}
    for key, value in content.items():
        key = str(key).replace("-", "_")
        if key in RESERVED:
            continue
        if key in options.sections() and (value is None or isinstance(value, dict)):
            for inner, inner_value in (value or {}).items():
                _put(values, f"{key}.{inner}", inner_value, options, where)
        elif isinstance(value, dict) and key not in options:
            raise UsageError(
                f"{where}: no section '{key}'{did_you_mean(key, options.sections())}; "
                "what others refer to may stand under a key that begins with x-"
            )
        else:
            _put(values, key, value, options, where)
    return values


def _put(values: Dict[str, Any], path: str, value: Any, options: Options, where: str) -> None:
    section, _, name = path.replace("-", "_").rpartition(".")
    if name not in options or (section and options.get(name).section != section):
        if name in options:
            raise UsageError(f"{where}: no option '{path}' (did you mean '{options.get(name).section}.{name}'?)")
        known = [f"{o.section}.{o.name}" for o in options] if section else options.names()
        raise UsageError(f"{where}: no option '{path}'{did_you_mean(path, known)}")
    option = options.get(name)
    parsed = option.parse(value, where)
    if option.name in values and values[option.name] != parsed:
        raise UsageError(
            f"{where}: '{option.name}' is given twice, as {values[option.name]} and {parsed}"
            + (f" ('{name}' is another name of it)" if name != option.name else "")
        )
    values[option.name] = parsed


def parse_assignments(assignments: List[str], options: Options) -> Dict[str, Any]:
    """The values of ``--set key.path=value`` arguments."""
    values: Dict[str, Any] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: write --set key=value")
        _put(values, path.strip(), value.strip(), options, f"--set {text}")
    return values


def _not_replaced(weaker: Mapping[str, Any], stronger: Mapping[str, Any], options: Options) -> Dict[str, Any]:
    """``weaker`` without what ``stronger`` says in another way (``--epochs`` for ``train_steps``)."""
    gone = set()
    for option in options:
        for name, other in ((option.name, option.replaces), (option.replaces, option.name)) if option.replaces else ():
            if stronger.get(name) is not None and stronger.get(other) is None:
                gone.add(other)
    return {name: value for name, value in weaker.items() if name not in gone}


def resolve(
    options: Options,
    plugins: Iterable[str],
    has_gpu: bool,
    *sources: Tuple[str, Mapping[str, Any]],
    environment: Mapping[str, Any] = MappingProxyType({}),
    defaults: Mapping[str, Any] = MappingProxyType({}),
    base: Mapping[str, Any] = MappingProxyType({}),
    carried: Iterable[str] = (),
) -> Config:
    """Merge ``sources`` (weakest first) over ``base``, ``defaults`` of plugins and the defaults of ``options``.

    ``base`` are values of the run that is resumed, ``carried`` the options that its commands gave. ``environment`` is
    what the cluster's environment says of options that nobody gave a value; those of one command are not written into
    a file. Like a default it is not *given*: another job has another environment.
    """
    values: Dict[str, Any] = {}
    for option in options:
        values[option.name] = option.cuda_default if has_gpu and option.cuda_default is not None else option.default
    given: Dict[str, Any] = {}
    origins = {**dict.fromkeys(base, "the checkpoint"), **dict.fromkeys(environment, "the cluster's environment")}
    for where, source in sources:
        given = {**_not_replaced(given, source, options), **source}
        origins.update(dict.fromkeys(source, where))
    base = _not_replaced(base, given, options)
    values.update(_not_replaced(defaults, {**base, **given}, options))
    values.update(base)
    values.update(given)
    values.update(environment)
    declared = {option.name: option for option in options}
    typed = {name for where, source in sources if not where.startswith(_FILE) for name in source}
    return Config(
        values,
        declared,
        plugins,
        given,
        (name for name in environment if declared[name].resume == FRESH),
        typed,
        carried,
        {name: where for name, where in origins.items() if where != FLAGS},
    )
