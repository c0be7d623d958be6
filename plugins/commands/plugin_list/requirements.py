"""``plugins --requirements``: what pip must install on another machine for some plugins, or for a checkpoint."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from pipeloom import __version__
from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.resume import find
from pipeloom.core.host import shape
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.plugin_manager import LEFT_OUT
from pipeloom.plugins.commands.plugin_list.description import kind_of_plugin, load_any


def required(names: Sequence[str], checkpoint: Optional[str]) -> Dict[str, Any]:
    """Return ``requirements`` (lines for pip), ``files`` that are no part of a distribution, and ``notes``.

    Of the plugins ``names``, or those of ``checkpoint``. Raises ``UsageError``.
    """
    if bool(names) == (checkpoint is not None):
        raise UsageError("--requirements: name plugins, or a --checkpoint")
    if checkpoint is not None:
        versions = _of_checkpoint(checkpoint)
        notes = [f"of {checkpoint}"]
    else:
        plugins = [name.strip() for text in names for name in text.split(",") if name.strip()]
        versions = {name: _version_here(name) for name in plugins if not name.startswith(LEFT_OUT)}
        notes = []
    recorded = next((version for name, version in versions.items() if name in builtin()), __version__)
    lines, more = _line("pipeloom", recorded)
    found: Dict[str, List[str]] = {"requirements": [*lines], "files": [], "notes": [*notes, *more]}
    for name, version in versions.items():
        if name in builtin():
            continue
        if version in ("file", "module"):
            distribution = _distribution_of(name) if version == "module" else None
            if distribution is None:
                found["files"].append(name)
                continue
            version = f"{distribution.metadata['Name']} {distribution.version}"
        lines, more = _line(*version.rpartition(" ")[::2])
        found["requirements"] += [line for line in lines if line not in found["requirements"]]
        found["notes"] += [note for note in more if note not in found["notes"]]
    return found


def describe_requirements(content: Mapping[str, Sequence[str]]) -> str:
    """Return what ``--requirements`` prints: a file for ``pip install -r``, with the rest in comments."""
    lines = [f"# {note}" for note in content["notes"]] + list(content["requirements"])
    lines += [f"# no distribution: copy {file}, and select it where it then is" for file in content["files"]]
    return "\n".join(lines)


def _of_checkpoint(path: str) -> Mapping[str, str]:
    try:
        resumed = find(path, None, ())
    except UsageError as error:
        raise UsageError(str(error).replace("--resume", "--checkpoint")) from None
    if resumed.path is None:
        raise UsageError(f"--checkpoint {path}: there is no checkpoint")
    plugins = Checkpoint(resumed.path).manifest.plugins
    return {name: version for name, version in plugins.items() if not name.startswith(LEFT_OUT)}


def _version_here(name: str) -> str:
    kind_of_plugin(name)
    return load_any(name)[1]


def _line(name: str, version: str) -> Tuple[List[str], List[str]]:
    """Return the requirement of a distribution, and notes about it."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        how = "runs from its sources here, which no index may have" if name == "pipeloom" else "is not installed here"
        return [f"{name}=={version}"], [f"{name} {how}"]
    notes = []
    if distribution.version != version:
        notes.append(f"{name}: it was {version}, here is {distribution.version}")
    source = _source(distribution)
    if "vcs_info" in source:
        vcs = source["vcs_info"]
        return [f"{name} @ {vcs['vcs']}+{source['url']}@{vcs['commit_id']}"], notes
    if "dir_info" in source:
        notes.append(f"{name} was installed from a folder here, which no index may have: pip install that folder there")
    return [f"{name}=={version}"], notes


def _source(distribution: Any) -> Dict[str, Any]:
    """Return where pip got a distribution from, if not from an index (direct_url.json, PEP 610)."""
    try:
        found = json.loads(distribution.read_text("direct_url.json") or "{}")
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _distribution_of(name: str) -> Optional[Any]:
    """Return the distribution that the module ``name`` was installed by."""
    file = getattr(shape.module_of(load_any(name)[0]), "__file__", None)
    if file is None:
        return None
    target = Path(file).resolve()
    return next((one for one in metadata.distributions() if target in _files(one, target.name)), None)


def _files(distribution: Any, name: str) -> Iterable[Path]:
    try:
        return [
            Path(distribution.locate_file(path)).resolve() for path in distribution.files or () if path.name == name
        ]
    except Exception:  # a list of files that is damaged
        return []
