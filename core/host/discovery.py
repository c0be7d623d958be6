"""Which plugins there are: the built-in table, entry points of installed packages, modules and files.

Entry points are read here and not by ``importlib.metadata.entry_points``, which reads those of all packages and fails
for all of them at one malformed file: only lines under ``[pipeloom]`` count, and a package that has none harms nobody.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from pipeloom.core.base.errors import ContractError, UsageError, did_you_mean
from pipeloom.core.base.variables import LOAD_PLUGINS
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.calls import call, importing
from pipeloom.core.host.shape import plugin_in

#: The entry-point group under which third-party packages offer plugins.
GROUP = "pipeloom"
_VALUE = re.compile(r"([A-Za-z_][\w.]*)(?:\s*:\s*([A-Za-z_][\w.]*))?\s*(?:\[.*\])?")


@dataclass(frozen=True)
class Offer:
    """A plugin that an installed package offers: its ``name``, ``value`` (``module`` or ``module:object``), and the
    name and version of the ``distribution``."""

    name: str
    value: str
    distribution: str

    def load(self) -> Any:
        """Import what it names. Raises whatever that raises, and ``ContractError`` where it names nothing."""
        match = _VALUE.fullmatch(self.value.strip())
        if match is None:
            raise ContractError(f"its entry point is '{self.value}', which is neither a module nor module:object")
        found = importlib.import_module(match.group(1))
        for attribute in (match.group(2) or "").split("."):
            found = getattr(found, attribute) if attribute else found
        return found


def installed_plugins() -> Dict[str, List[Offer]]:
    """What installed packages offer, by name; not loaded, so a broken package harms no other.

    Where PIPELOOM_LOAD_PLUGINS is set, the plugins that it names alone.
    """
    result: Dict[str, Dict[str, Offer]] = {}
    wanted = _wanted()
    for offer in scan()[0]:
        if wanted is not None and offer.name not in wanted:
            continue
        # A checkout and an installed copy of one package may both be on the path: same value, one plugin.
        result.setdefault(offer.name, {}).setdefault(offer.value, offer)
    return {name: list(offers.values()) for name, offers in result.items()}


def _wanted() -> Optional[Set[str]]:
    """The names in PIPELOOM_LOAD_PLUGINS, ``None`` where it is not set."""
    listed = os.environ.get(LOAD_PLUGINS)
    return None if listed is None else {name.strip() for name in listed.split(",") if name.strip()}


def selection_notes() -> List[str]:
    """What PIPELOOM_LOAD_PLUGINS does, in lines; none where it is not set."""
    wanted = _wanted()
    if wanted is None:
        return []
    offered = {offer.name for offer in scan()[0]}
    lines = [f"{LOAD_PLUGINS} leaves out {', '.join(sorted(offered - wanted))}"] if offered - wanted else []
    return lines + [
        f"{LOAD_PLUGINS} names '{name}', which no installed package offers{did_you_mean(name, offered)}"
        for name in sorted(wanted - offered)
    ]


def scan() -> Tuple[List[Offer], List[str]]:
    """All offers in the order of ``sys.path``, and a line for each package that means to offer some and does not say it
    well."""
    offers, notes = look_through(tuple((place, _changed(place)) for place in sys.path))
    return list(offers), list(notes)


def _changed(place: str) -> int:
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=1)
def look_through(_: Tuple[Tuple[str, int], ...]) -> Tuple[List[Offer], List[str]]:
    """Do it, once in a process for a path to whose folders nothing was added; ``cache_clear()`` makes it look anew."""
    offers: List[Offer] = []
    notes: List[str] = []
    seen = set()
    for distribution in _distributions():
        text = _text_of(distribution)
        if f"[{GROUP}]" not in text.replace(" ", ""):
            continue
        label = _label(distribution)
        key = re.sub(r"[-_.]+", "-", label.rpartition(" ")[0]).lower()
        if key in seen:  # the first on the path is the one that would be imported
            continue
        seen.add(key)
        wrong = []
        for number, line in _lines_of_group(text):
            name, equals, value = (part.strip() for part in line.partition("="))
            if name and equals and value:
                offers.append(Offer(name, value, label))
            else:
                wrong.append(
                    f"line {number} of its entry_points.txt is no 'name = module': {' '.join(line.split())[:60]}"
                )
        if wrong:
            notes.append(f"{label}: {wrong[0]}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""))
    return offers, notes


def _distributions() -> Iterator[Any]:
    found = iter(metadata.distributions())
    while True:
        try:
            yield next(found)
        except StopIteration:
            return
        except Exception:  # a place on the path that cannot be looked through
            return


def _text_of(distribution: Any) -> str:
    """Its entry_points.txt; "" where it has none. What is no UTF-8 in it cannot name a module."""
    try:
        return distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as error:
        return bytes(error.object).decode("utf-8", "replace")
    except Exception:  # a folder of that name, a file that nobody may read, a broken archive
        return ""


def _label(distribution: Any) -> str:
    """Name and version; of one without metadata (or with metadata that is no text) what its folder is called."""
    try:
        name, version = distribution.metadata["Name"], distribution.version
    except Exception:
        name = version = None
    if isinstance(name, str) and isinstance(version, str):
        return f"{name} {version}"
    folder = Path(str(getattr(distribution, "_path", "a package without metadata"))).stem
    return " ".join(folder.rsplit("-", 1)) if "-" in folder else f"{folder} (without a version)"


def _lines_of_group(text: str) -> Iterator[Tuple[int, str]]:
    group = None
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().lstrip("\ufeff")
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif line and line[0] not in "#;" and group == GROUP:
            yield number, line


def load_plugin(name: str) -> Tuple[Any, str]:
    """The plugin ``name`` and its version: built-in, entry point, ``./file.py``, or ``module.path``. Raises
    ``UsageError``."""
    from pipeloom import __version__

    installed = installed_plugins()
    offers = installed.get(name, [])
    if name in builtin():
        if offers:
            raise UsageError(
                f"plugin '{name}': {offers[0].distribution} offers a plugin of the name of a built-in "
                "one; "
                f"uninstall it or load it by its module: {offers[0].value}"
            )
        if name in builtin().defaults:
            raise UsageError(f"plugin '{name}' is always there: leave it out")
        return importlib.import_module(builtin().selectable[name]), __version__
    if len(offers) > 1:
        raise UsageError(
            f"plugin '{name}' is offered by two packages: "
            f"{' and '.join(offer.distribution for offer in offers[:2])}; "
            f"load one by its module: {offers[0].value}"
        )
    if offers:
        return _import(name, offers[0].distribution, offers[0].load), offers[0].distribution
    if name.endswith(".py") or "/" in name:
        return _import(name, "file", lambda: _load_file(name)), "file"
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return _import(name, "module", lambda: importlib.import_module(name)), "module"
    if any(offer.name == name for offer in scan()[0]):
        raise UsageError(
            f"plugin '{name}' is installed, and {LOAD_PLUGINS} in the environment leaves it out: add it there"
        )
    known = [*builtin().selectable, *installed]
    raise UsageError(f"no plugin '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}")


def whose(name: str, version: str) -> str:
    """How messages call a plugin: its name, and its distribution and version, or what it was loaded from."""
    return f"plugin '{name}' ({version})"


def _import(name: str, version: str, load: Callable[[], Any]) -> Any:
    """The plugin; an import that fails in whatever way becomes one line."""

    def guarded() -> Any:
        with importing():
            return load()

    return call(whose(name, version), "", plugin_in, call(whose(name, version), "its import", guarded))


def _load_file(name: str) -> Any:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"plugin '{name}': there is no such file")
    if path.suffix != ".py":
        raise UsageError(f"plugin '{name}': a file must be called something.py")
    module_name = "pipeloom_file_plugin_" + re.sub(r"\W", "_", str(path.resolve()))
    spec: Any = importlib.util.spec_from_file_location(module_name, path.resolve())
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
