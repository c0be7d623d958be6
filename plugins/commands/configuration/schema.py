"""The JSON schema (draft 2020-12) of the YAML files of ``--config``, by which editors complete and check them.

It is of the values as YAML 1.2 has them. pipeloom reads a little more than the schema allows (a number in quotes,
``TRUE``), and checks more than a schema can (two names of one option).
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.options import Option
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.discovery import installed_plugins
from pipeloom.core.host.plugin_manager import PluginManager

_KINDS: Dict[Any, Dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"enum": [True, False, "yes", "no", "on", "off"]},
    str: {"type": ["string", "number"]},
}


def all_options() -> List[List[Option]]:
    """Return the options of a run with each plugin that there is, one after the other: not all go together."""
    found = []
    for name in [*builtin().selectable, *installed_plugins()]:
        manager = PluginManager()
        try:
            manager.load([name])
            found.append(list(manager.options()))
        except UsageError:  # a broken package; 'plugins' says so
            continue
    return found


def schema_of(runs: Iterable[Sequence[Option]], plugins: Sequence[str]) -> Dict[str, Any]:
    """Return the schema of a file with the options of ``runs``; the names ``plugins`` stand in its title."""
    options: Dict[str, List[Dict[str, Any]]] = {}
    sections: Dict[str, Dict[str, None]] = {}
    for run in runs:
        for option in run:
            for name in (option.name, *option.aliases):
                same = option_schema(option) if name == option.name else _alias(option)
                known = options.setdefault(name, [])
                if same not in known:
                    known.append(same)
                sections.setdefault(option.section, {})[name] = None
    known_plugins = [*builtin().selectable, *(f"-{name}" for name in builtin().defaults), *installed_plugins()]
    name_of_plugin = {"anyOf": [{"enum": known_plugins}, {"type": "string", "minLength": 1}]}
    places: Dict[str, Dict[str, Any]] = {name: {"$ref": f"#/$defs/{name}"} for name in options}
    groups: Dict[str, Dict[str, Any]] = {name: _object(list(own), ["object", "null"]) for name, own in sections.items()}
    for name in groups.keys() & places.keys():  # an option may be called as its section is: then it is no mapping
        groups[name] = places[name] = {"anyOf": [groups[name], places[name]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"pipeloom configuration ({', '.join(plugins) or 'all plugins'})",
        **_object(list(places), "object"),
        "properties": {
            "plugins": {
                "description": "plugins by name, module.path or ./file.py; -NAME leaves out one that is always there",
                "anyOf": [{"type": "array", "items": name_of_plugin}, {"type": ["string", "null"]}],
            },
            "strategy": {"description": "another way to select a strategy plugin", "type": ["string", "null"]},
            **groups,
            **places,
        },
        "patternProperties": {
            "^x-": {"description": "what others refer to (&name, <<: *name)"},
            **_hyphened(places),
            **_hyphened(groups),
        },
        "$defs": {name: known[0] if len(known) == 1 else _any_of(known) for name, known in options.items()},
    }


def option_schema(option: Option) -> Dict[str, Any]:
    """Return the schema of an option's value, with its help and default for editors."""
    text = option.help + (f" [on GPUs: {option.cuda_default}]" if option.cuda_default is not None else "")
    kind = dict(getattr(option.type, "schema", None) or _KINDS.get(option.type, {}))
    if option.choices is not None:
        kind = {"enum": list(option.choices)}
    for name, bound in (("minimum", option.minimum), ("maximum", option.maximum)):
        if bound is not None:
            kind[name] = bound
    if option.default is None:
        kind = _or_null(kind)
    default = {} if option.default is None else {"default": option.default}
    return {"description": text, **kind, **default}


def _alias(option: Option) -> Dict[str, Any]:
    return {"description": f"the same as {option.name}", "$ref": f"#/$defs/{option.name}"}


def _or_null(kind: Dict[str, Any]) -> Dict[str, Any]:
    if "enum" in kind:
        return {**kind, "enum": [*kind["enum"], None]}
    if "type" in kind:
        types = kind["type"] if isinstance(kind["type"], list) else [kind["type"]]
        return {**kind, "type": [*types, "null"]}
    return {**kind, "anyOf": [*kind["anyOf"], {"type": "null"}]} if "anyOf" in kind else kind


def _any_of(known: List[Dict[str, Any]]) -> Dict[str, Any]:
    """One of several plugins' options of one name."""
    return {"description": known[0].get("description", ""), "anyOf": known}


def _object(names: Sequence[str], kind: Any) -> Dict[str, Any]:
    places = {name: {"$ref": f"#/$defs/{name}"} for name in names}
    return {
        "type": kind,
        "properties": places,
        "patternProperties": _hyphened(places),
        "additionalProperties": False,
    }


def _hyphened(places: Mapping[str, Any]) -> Dict[str, Any]:
    """The same keys with ``-`` for ``_``, which are the same."""
    return {f"^{name.replace('_', '[-_]')}$": place for name, place in places.items() if "_" in name}
