"""``entry.py checkpoint ls|verify|show PATH``: looking at checkpoints without the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import yaml

from pipeloom.core.base.errors import UsageError, did_you_mean, similar_path
from pipeloom.core.checkpoint.manifest import MANIFEST, BadCheckpoint, Manifest, read_manifest, verify
from pipeloom.core.checkpoint.naming import checkpoint_path
from pipeloom.core.checkpoint.store import FOLDER, Store
from pipeloom.core.contract.commands import Command

ACTIONS = ("ls", "verify", "show")


def checkpoint_command(arguments: Sequence[str]) -> int:
    """Do it; returns 0, or 1 where a checkpoint is not whole. Raises ``UsageError`` for a command that makes no
    sense.
    """
    if not arguments or arguments[0] not in ACTIONS:
        close = did_you_mean(arguments[0], ACTIONS) if arguments else ""
        raise UsageError(
            f"'checkpoint' needs one of {', '.join(ACTIONS)} and a path{close}: entry.py checkpoint ls runs/NAME"
        )
    if len(arguments) != 2:
        raise UsageError(
            f"'checkpoint {arguments[0]}' takes one path: of a checkpoint (also RUN@best, RUN@last, "
            "RUN@120), or of a run directory"
        )
    path = checkpoint_path(arguments[1])
    store, found = _find(path)
    if arguments[0] == "show":
        print(describe(found[-1]))
        return 0
    if arguments[0] == "verify":
        return _verify(found)
    _list(store, found)
    return 0


def _find(path: Path) -> Tuple[Store, List[Path]]:
    """The folder of checkpoints, and those that ``path`` means: it, or all of its run."""
    if (path / MANIFEST).exists():
        return Store(path.parent), [path]
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    found = Store(folder).checkpoints()
    if not found:
        raise UsageError(f"{path}: there is no checkpoint{'' if path.exists() else similar_path(path)}")
    return Store(folder), found


def _list(store: Store, found: Sequence[Path]) -> None:
    last, best = store.last(), (store.best() or {}).get("checkpoint")
    for path in found:
        try:
            manifest = read_manifest(path)
        except BadCheckpoint as bad:
            print(f"{path.name}  NOT WHOLE: {bad}")
            continue
        figures = {**manifest.metrics, **{f"eval {name}": value for name, value in manifest.evaluation.items()}}
        names = dict.fromkeys(("loss", "eval loss", f"eval {manifest.option('best_metric')}"))
        shown = "  ".join(f"{name} {figures[name]:.4f}" for name in names if name in figures)
        marks = ", ".join(mark for mark, name in (("last", last), ("best", best)) if name == path.name)
        print(
            f"{path.name}  {manifest.size_bytes / 1e6:.1f} MB  {manifest.saved_at}  {shown}"
            + (f"  ({marks})" if marks else "")
        )


def _verify(found: Sequence[Path]) -> int:
    code = 0
    for path in found:
        try:
            manifest = verify(path)
            print(f"{path}: whole ({len(manifest.files)} files, {manifest.size_bytes / 1e6:.1f} MB)")
        except BadCheckpoint as bad:
            code = 1
            print(f"{path}: NOT WHOLE: {bad}")
    return code


def describe(path: Path) -> str:
    """Step, metrics, parameters and configuration of a checkpoint as text. Raises ``UsageError``."""
    try:
        manifest = read_manifest(path)
    except BadCheckpoint as bad:
        raise UsageError(f"checkpoint {path}: {bad}") from None
    position = manifest.position
    lines = [
        f"checkpoint {path}",
        f"step       {position['step']} of {manifest.option('train_steps')}; {position['samples']} samples, "
        f"{position['skipped']} batches left out; saved {manifest.saved_at}",
        f"model      {manifest.model['name']} for {manifest.model['task']}, {manifest.model['size'] / 1e6:.2f} M "
        f"parameters",
        f"optimizer  {manifest.optimizer}: {', '.join(manifest.optimizer_kinds) or 'no state'}",
        f"layout     {_layout(manifest)}",
        f"plugins    {', '.join(f'{name} {version}' for name, version in manifest.plugins.items())}",
        f"versions   {', '.join(f'{name} {version}' for name, version in manifest.versions.items() if version)}",
        *_figures("metrics", manifest.metrics),
        *_figures("evaluation", manifest.evaluation),
        f"files      {len(manifest.files)}, {manifest.size_bytes / 1e6:.1f} MB",
        "parameters",
        *(f"  {name} {shape}" for name, shape in manifest.parameters.items()),
        "config",
        *("  " + line for line in yaml.safe_dump(manifest.config, sort_keys=False).splitlines()),
    ]
    return "\n".join(lines)


def _layout(manifest: Manifest) -> str:
    mesh, cluster = manifest.layout["mesh"], manifest.layout["cluster"]
    return (
        f"made by {cluster.get('nodes')} x {cluster.get('devices_per_node')} {cluster.get('device_type')} ranks, "
        f"pipeline {mesh['pipeline']} x data {mesh['data']} x tensor {mesh['tensor']}; any other can read it"
    )


def _figures(title: str, figures: Dict[str, float]) -> List[str]:
    return [f"{title:<10} {', '.join(f'{name} {value:.6g}' for name, value in figures.items())}"] if figures else []


COMMAND = Command("checkpoint", "list, verify, print checkpoints", checkpoint_command)
