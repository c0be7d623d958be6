"""Reading the YAML file of ``--config``: values as their options mean them, and nothing lost without a word.

YAML 1.1 guesses the type of a plain value: ``1e-4`` is text to it, ``010`` is 8, ``1:30`` is 90, ``no`` is false,
``1_0`` is 10. Here a plain value stays the text that is written, and the option makes of it what it would make of it on
the command line.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import yaml

from pipeloom.core.base.errors import UsageError

_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: str) -> Dict[str, Any]:
    """The YAML file ``path`` as a dict; plain values in it are text, empty ones ``None``.

    Raises ``UsageError`` when it is absent or not a mapping.
    """
    file = Path(path).expanduser()
    try:
        content = yaml.load(_text(file.read_bytes()), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    except Exception as error:  # PyYAML's own, or what its constructors run into: !!bool maybe, endless nesting
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise UsageError(f"--config {path}{place}: {_problem(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: must be 'key: value' lines, not a {type(content).__name__}")
    # Keys that begin with x- hold what others refer to, as in files of docker compose.
    return {key: value for key, value in content.items() if not str(key).startswith("x-")}


def _text(data: bytes) -> str:
    """``data`` by its byte-order mark, else as UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def _problem(error: Exception) -> str:
    problem = getattr(error, "problem", None)
    if not problem:
        return "not valid YAML"
    if "'\\t'" in problem:
        return f"{problem}: indent with spaces, not tabs"
    if "found another document" in problem:
        return "a second document begins there: a file has one"
    return problem


class _Loader(yaml.SafeLoader):
    """SafeLoader that leaves plain values as they are written, and refuses a key given twice, of which YAML would
    silently keep the last. Merge keys (``<<: *other``) bring the keys of another mapping, which those that are written
    here replace."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._looked_at: Set[int] = set()

    def flatten_mapping(self, node: Any) -> None:
        # Here and not when the mapping is made: a mapping that another one merges is flattened before that.
        if id(node) not in self._looked_at:
            self._looked_at.add(id(node))
            _refuse_twice(node)
        super().flatten_mapping(node)
        # Of merged keys the last counts; all the others would double at each further merge.
        last: Dict[Tuple[str, Any], Tuple[Any, Any]] = {}
        for key, value in node.value:
            last[key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)] = (key, value)
        node.value = list(last.values())


def _refuse_twice(node: Any) -> None:
    seen: Set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
        if key.value in seen:
            hint = " (merge several by <<: [*a, *b])" if key.tag == _MERGE else ""
            problem = f"the key '{key.value}' is given twice{hint}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)


def _resolvers() -> Dict[str, List[Tuple[str, Any]]]:
    """Those of the two plain values that are more than text: nothing at all (``seed:``, ``~``), and the merge key."""
    kept = ("tag:yaml.org,2002:null", _MERGE)
    found: Dict[str, List[Tuple[str, Any]]] = {}
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
        wanted = [(tag, pattern) for tag, pattern in resolvers if tag in kept]
        if wanted:
            found[first] = wanted
    return found


_Loader.yaml_implicit_resolvers = _resolvers()
