"""A reader of YAML as version 1.2 has it, and a validator of the part of JSON Schema that pipeloom's schema uses.

The package jsonschema is asked too, where it is installed.
"""

from __future__ import annotations

import re

import yaml

#: Keywords that say nothing about what is valid.
_SILENT = {"$schema", "title", "description", "default", "$defs"}
_TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: _TYPES["number"](value) and value == int(value),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


class _Loader(yaml.SafeLoader):
    """Plain values by YAML 1.2's core schema: ``1e-4`` is a number, ``no`` is text."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in found if one[0].rpartition(":")[2] in ("null", "merge")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, pattern in (
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^({pattern})$"), list("-+.0123456789tTfF"))


def read(text):
    return yaml.load(text, Loader=_Loader)


def faults(value, schema, root=None, where="$"):
    """Where ``value`` breaks ``schema``, and by which keyword."""
    root = schema if root is None else root
    found = []
    for keyword, wanted in schema.items():
        if keyword in _SILENT or keyword == "additionalProperties":
            continue
        found += _KEYWORDS[keyword](value, wanted, root, where, schema)
    return found


def _fault(fine, where, keyword):
    return [] if fine else [f"{where}: {keyword}"]


def _any_of(value, wanted, root, where, schema):
    return _fault(any(not faults(value, one, root, where) for one in wanted), where, "anyOf")


def _properties(value, wanted, root, where, schema):
    if not isinstance(value, dict):
        return []
    found = []
    for key, inner in value.items():
        patterns = [one for pattern, one in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        places = ([wanted[key]] if key in wanted else []) + patterns
        if not places and schema.get("additionalProperties") is False:
            found.append(f"{where}.{key}: additionalProperties")
        for place in places:
            found += faults(inner, place, root, f"{where}.{key}")
    return found


def _type(value, wanted, root, where, schema):
    names = wanted if isinstance(wanted, list) else [wanted]
    return _fault(any(_TYPES[name](value) for name in names), where, "type")


def _number(compare):
    return lambda value, wanted, root, where, schema: _fault(
        not _TYPES["number"](value) or compare(value, wanted), where, "bound"
    )


_KEYWORDS = {
    "type": _type,
    "enum": lambda value, wanted, root, where, schema: _fault(
        any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in wanted), where, "enum"
    ),
    "minimum": _number(lambda value, low: value >= low),
    "maximum": _number(lambda value, high: value <= high),
    "pattern": lambda value, wanted, root, where, schema: _fault(
        not isinstance(value, str) or re.search(wanted, value), where, "pattern"
    ),
    "minLength": lambda value, wanted, root, where, schema: _fault(
        not isinstance(value, str) or len(value) >= wanted, where, "minLength"
    ),
    "minItems": lambda value, wanted, root, where, schema: _fault(
        not isinstance(value, list) or len(value) >= wanted, where, "minItems"
    ),
    "items": lambda value, wanted, root, where, schema: [
        fault
        for number, item in enumerate(value if isinstance(value, list) else ())
        for fault in faults(item, wanted, root, f"{where}[{number}]")
    ],
    "anyOf": _any_of,
    "$ref": lambda value, wanted, root, where, schema: faults(
        value, root["$defs"][wanted[len("#/$defs/") :]], root, where
    ),
    "properties": _properties,
    "patternProperties": lambda *_: [],  # with the properties
}


def is_valid(value, schema):
    """Whether ``value`` is as ``schema`` has it; both validators must agree."""
    ours = not faults(value, schema)
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return ours
    Draft202012Validator.check_schema(schema)
    theirs = Draft202012Validator(schema).is_valid(value)
    assert ours == theirs, faults(value, schema)
    return theirs
