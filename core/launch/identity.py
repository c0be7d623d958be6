"""What must be the same on all nodes of a job, as a few short hashes that their launchers can compare.

Nodes that differ in code, data or options would train on, each its own job, and no loss curve would show it.
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import pipeloom
from pipeloom import core
from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import sample_of_file
from pipeloom.core.config.config import Config
from pipeloom.core.contract.options import WEIGHTED
from pipeloom.core.data.mixture import paths_in
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.shape import module_of
from pipeloom.core.planning.plan import Plan

_SAMPLE_BYTES = 4096
_MOST_FILES = 1000


def identity(plan: Plan, plugins: PluginManager) -> Dict[str, str]:
    """16 hexadecimal digits for each subject. Two nodes of a job must have equal ones.

    ``code``      the .py files of pipeloom: relative names and contents
    ``plugins``   the selected plugins' names, order and versions; of those outside pipeloom also their sources
    ``config``    the resolved configuration and layout, without options that each node has for itself (``per_node``)
    ``--NAME``    of an option that names files their contents, sampled: they may lie elsewhere on another node
    ``data``      :meth:`pipeloom.core.contract.dataset.Dataset.fingerprint`
    ``versions``  of the packages that the executor computes with

    Raises ``RunError`` when a file cannot be read.
    """
    executor = plugins.hook.pipeloom_executor(config=plan.config)
    try:
        return {
            "code": _hash(_code()),
            "plugins": _hash(_plugins(plugins)),
            "config": _hash(_config(plan)),
            **{f"--{name}": _hash(content) for name, content in _files(plan.config).items()},
            "data": _hash(plan.dataset.fingerprint()),
            "versions": _hash([(name, _version(name)) for name in executor.packages]),
        }
    except OSError as error:
        raise RunError(f"cannot read {error.filename} to compare this node with the others: {error.strerror}") from None


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _code() -> List[Tuple[str, str]]:
    """The sources of this checkout or installation; where it lies does not matter."""
    folders = {"": (Path(pipeloom.__file__).parent, "*.py"), "core": (Path(core.__file__).parent, "**/*.py")}
    folders["plugins"] = (builtin().folder, "**/*.py")
    found = ((name, _sources(folder, pattern)) for name, (folder, pattern) in folders.items())
    return [(f"{name}/{path}", content) for name, sources in found for path, content in sources]


def _plugins(plugins: PluginManager) -> List[Any]:
    ours = builtin().folder
    found: List[Any] = []
    for name, version in plugins.versions.items():
        module = module_of(plugins.get(name))
        file = Path(getattr(module, "__file__", None) or ours)
        # A file may lie elsewhere on another node; what it is called there is the same.
        found.append(
            [
                Path(name).name if "/" in name else name,
                version,
                [] if ours in (file, *file.parents) else _sources_of(module, file),
            ]
        )
    return found


def _sources_of(module: Any, file: Path) -> List[Tuple[str, str]]:
    """Of a module inside a package the sources of the package, since it will use them; else its own."""
    if getattr(module, "__package__", None):
        return _sources(file.parent, "**/*.py")
    return [(file.name, _content(file))]


def _sources(folder: Path, pattern: str) -> List[Tuple[str, str]]:
    files = sorted(folder.glob(pattern), key=lambda path: path.relative_to(folder).parts)[:_MOST_FILES]
    return [(path.relative_to(folder).as_posix(), _content(path)) for path in files if path.is_file()]


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _config(plan: Plan) -> Dict[str, Any]:
    declared = plan.config.declared
    options = {
        name: value is not None if declared[name].path else value
        for name, value in plan.config.to_flat_dict().items()
        if not declared[name].per_node
    }
    cluster, mesh = plan.cluster, plan.mesh
    return {
        "options": options,
        "cluster": [cluster.nodes, cluster.devices_per_node, cluster.device_type],
        "mesh": [mesh.pipeline, mesh.data, mesh.tensor],
        "split": list(plan.split),
        "placement": [list(ranks) for ranks in plan.placement.stages],
    }


def _files(config: Config) -> Dict[str, Any]:
    """What lies where the options of ``config`` say that files are."""
    return {
        name: _by_content(value, option.path == WEIGHTED)
        for name, option in config.declared.items()
        for value in [getattr(config, name)]
        if option.path and not option.per_node and isinstance(value, str)
    }


def _by_content(value: str, weighted: bool = False) -> Any:
    """Of an existing file or folder the names, sizes and both ends of its files; with ``weighted`` those of each of
    several (``a:0.7,b:0.3``), and its weight; of what is not there the text itself.
    """
    path = Path(value)
    if path.is_file():
        return [_sampled(path)]
    if path.is_dir():
        files: Iterable[Path] = sorted(entry for entry in path.iterdir() if entry.is_file())
        return [(entry.name, *_sampled(entry)) for entry in list(files)[:_MOST_FILES]]
    if not weighted:
        return value
    pieces = paths_in(value)
    if len(pieces) > 1:
        return [_by_content(piece, weighted) for piece in pieces]
    before, _, weight = value.rpartition(":")
    return [_by_content(before), weight] if before and Path(before).exists() else value


def _sampled(path: Path) -> Tuple[int, str]:
    return path.stat().st_size, sample_of_file(path, _SAMPLE_BYTES)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
