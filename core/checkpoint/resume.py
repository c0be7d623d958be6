"""From ``--resume`` to a checkpoint: which one, which options come from it, and what must not have changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from pipeloom.core.base.errors import UsageError, did_you_mean, similar_path
from pipeloom.core.checkpoint.describe import answers
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.manifest import MANIFEST, BadCheckpoint, Manifest, verify
from pipeloom.core.checkpoint.naming import checkpoint_path
from pipeloom.core.checkpoint.store import FOLDER, Store, step_of
from pipeloom.core.config.config import Config
from pipeloom.core.contract.options import FIXED, FREE, FRESH, Options
from pipeloom.core.host.builtin import builtin

AUTO = "auto"
#: Of format 1, where the default is another now.
_OLD_DEFAULTS = (("keep", 3),)


@dataclass(frozen=True)
class Resumed:
    """What ``--resume`` found.

    ``path``: the checkpoint (``None``: start from the beginning). ``directory``: that of the run that goes on
    (``None``: a new one). ``notes``: lines that say what was passed over.
    """

    path: Optional[Path]
    directory: Optional[Path]
    notes: List[str] = field(default_factory=list)


def find(resume: str, output_dir: Optional[str], plugins: Sequence[str]) -> Resumed:
    """Return the checkpoint that ``--resume`` means, after every byte of it was read.

    Raises ``UsageError`` where there is none, or where the one that was named is not whole.
    """
    if resume == AUTO:
        directory = Path(output_dir).expanduser() if output_dir else _last_run(plugins)
        if directory is None:
            return Resumed(
                None,
                None,
                ["resume     no run with these plugins has a checkpoint under runs/: starting from the beginning"],
            )
        path, notes = Store(directory / FOLDER).newest_whole()
        if path is None:
            notes = [*notes, f"resume     no whole checkpoint in {directory / FOLDER}: starting from the beginning"]
        return Resumed(path, directory, notes)
    try:
        path = checkpoint_path(resume)
    except UsageError as error:
        raise UsageError(f"--resume {error}") from None
    return _named(path, output_dir)


def _named(path: Path, output_dir: Optional[str]) -> Resumed:
    """Return the checkpoint at ``path``, or the newest of the run directory ``path``."""
    if (path / FOLDER).is_dir() or path.name == FOLDER:
        store = Store(path if path.name == FOLDER else path / FOLDER)
        found, notes = store.newest_whole()
        if found is None:
            raise UsageError(
                f"--resume {path}: no whole checkpoint in {store.directory}" + "".join(f"; {note}" for note in notes)
            )
        path = found
    else:
        notes = []
        if not (path / MANIFEST).is_file():
            raise UsageError(f"--resume {path}: not a checkpoint, nor a run directory{similar_path(path)}")
        try:
            verify(path)
        except BadCheckpoint as bad:
            raise UsageError(f"--resume {path}: {bad}; --resume auto takes the newest one that is whole") from None
    directory = path.parent.parent if path.parent.name == FOLDER else None
    own = directory is not None and (
        output_dir is None or Path(output_dir).expanduser().resolve() == directory.resolve()
    )
    if own:
        later = [
            other.name for other in Store(path.parent).checkpoints() if (step_of(other) or 0) > (step_of(path) or 0)
        ]
        if later and not notes:
            raise UsageError(
                f"--resume {path}: its run has later checkpoints ({later[-1]}); "
                "give another --output_dir to go on from this one"
            )
    return Resumed(path, directory if own else None, notes)


def _last_run(plugins: Sequence[str]) -> Optional[Path]:
    """Return, of the runs under runs/, that with these plugins whose last checkpoint is the youngest."""
    ending = run_name(plugins)
    found = []
    for store in Path("runs").glob(f"*/{FOLDER}"):
        if re.sub(r"-\d+$", "", store.parent.name).endswith(ending) and Store(store).checkpoints():
            found.append((Store(store).checkpoints()[-1].stat().st_mtime, store.parent))
    return max(found)[1] if found else None


def run_name(plugins: Sequence[str]) -> str:
    """Return the ending of the name of a run's directory."""
    return "-".join(re.sub(r"\W+", "_", plugin).strip("_") for plugin in plugins)


def options_from(checkpoint: Checkpoint, options: Options, given: Mapping[str, Any]) -> Tuple[Dict[str, Any], Set[str]]:
    """Return what a resumed run has from its checkpoint: values of options, and which options its commands have set.

    The values are those of options that are not in ``given``.

    Every option is as it was, but for those of one command alone, and those that were left to the plan: these are
    decided anew, by the machines and the data of now. Raises ``UsageError`` for a value that its option does not take.
    """
    values: Dict[str, Any] = {}
    recorded = {
        name: value
        for name, value in checkpoint.manifest.options().items()
        if name in options and options.get(name).resume != FRESH
    }
    chosen = _chosen(checkpoint.manifest, recorded, options)
    for name, value in recorded.items():
        option = options.get(name)
        left_to_plan = option.resume == FREE and option.is_left_to_plan and name not in chosen
        if name in given or left_to_plan or (value is None and option.default is not None):
            continue
        try:
            values[name] = option.parse(value, f"the checkpoint {checkpoint.path}")
        except UsageError as error:
            raise UsageError(f"{error}: give --{name}") from None
    weights = values.get("init_from")
    if weights is not None and not Path(weights).expanduser().exists():
        values["init_from"] = str(checkpoint.path)  # it has all that was taken from there
    return values, chosen


def _chosen(manifest: Manifest, recorded: Mapping[str, Any], options: Options) -> Set[str]:
    """Return which of the recorded options a command of the run has set; in format 1 those that are no default."""
    chosen = set(manifest.given) & recorded.keys()
    if manifest.format == 1:
        chosen |= {
            name
            for name, value in recorded.items()
            if (name, value) not in _OLD_DEFAULTS
            and value not in (options.get(name).default, options.get(name).cuda_default)
        }
    return chosen


def check_changes(config: Config, plan: Any, plugins: Any, checkpoint: Checkpoint) -> List[str]:
    """Return lines about what has changed since the checkpoint was made.

    Raises ``UsageError`` for another model, and for changes of the mathematics that ``--resume_allow`` does not name.
    """
    manifest = checkpoint.manifest
    changed, refused = [], []
    allowed = {name.strip().replace("-", "_") for name in (config.resume_allow or "").split(",") if name.strip()}
    for name, (before, now, fixed) in _changes(config, plan, plugins, manifest).items():
        changed.append(f"{name} {before} -> {now}")
        if fixed and name not in allowed:
            refused.append(name)
    known = {
        *config.to_flat_dict(),
        *manifest.options(),
        "data",
        "model_plugin",
        "dataset_plugin",
        "optimizer_plugin",
        "schedule_plugin",
    }
    unknown = sorted(allowed - known)
    if unknown:
        raise UsageError(f"--resume_allow {unknown[0]}: there is no such option{did_you_mean(unknown[0], known)}")
    if "model_plugin" not in refused:
        checkpoint.check_model(plan.model)
    if refused:
        what = "; ".join(line for line in changed if line.split(" ")[0] in refused)
        raise UsageError(
            f"the checkpoint {checkpoint.path} was made with other mathematics ({what}): leave that as it was, or "
            f"accept it with --resume_allow {','.join(refused)}"
        )
    gone = sorted(name for name in manifest.given if name in manifest.options() and name not in config.to_flat_dict())
    return [
        *(f"changed    {line}" for line in changed),
        *(f"left out   {name} {manifest.option(name)}: no selected plugin has this option now" for name in gone),
    ]


def _changes(config: Config, plan: Any, plugins: Any, manifest: Manifest) -> Dict[str, Tuple[Any, Any, bool]]:
    """Return what has changed, by name: before, now, and whether that changes the mathematics."""
    found: Dict[str, Tuple[Any, Any, bool]] = {}
    before = manifest.options()
    for name, now in config.to_flat_dict().items():
        kind = config.declared[name].resume
        if kind == FIXED and name in before and before[name] != now:
            found[name] = (before[name], now, True)
        elif kind == FREE and (name in before or name in config.given) and before.get(name) != now:
            found[name] = (before.get(name), now, False)
    for label, now in answers(plugins).items():
        was = manifest.answers.get(label)
        # What a default does, its options say; which of the defaults has it may change with pipeloom.
        if was != now and not {was, now} <= set(builtin().defaults):
            found[label.split()[-1] + "_plugin"] = (was, now, True)
    mesh = manifest.layout["mesh"]
    here = {"pipeline": plan.mesh.pipeline, "data": plan.mesh.data, "tensor": plan.mesh.tensor}
    if mesh != here:
        found["layout"] = (
            "x".join(map(str, mesh.values())),
            "x".join(map(str, here.values())) + " (pipeline x data x tensor)",
            False,
        )
    if manifest.data != plan.dataset.fingerprint():
        found["data"] = (manifest.data[:8], plan.dataset.fingerprint()[:8], True)
    return found
