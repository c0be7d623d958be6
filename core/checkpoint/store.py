"""The folder ``checkpoints/`` of a run: which checkpoints there are, which is the last whole one, which must go."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

from pipeloom.core.base import files
from pipeloom.core.checkpoint.manifest import MANIFEST, BadCheckpoint, FileEntry, Manifest, verify
from pipeloom.core.planning.goal import Goal

FOLDER, LAST, BEST = "checkpoints", "last", "best"
_REPLACED = "replaced"
_NAME = re.compile(r"step_(\d{7,})")
#: What this program hides while it writes or removes it; another's hidden folder is not its to touch.
_OURS = re.compile(rf"{re.escape(files.HIDDEN)}step_\d{{7,}}\.({_REPLACED}|removing|[0-9a-z]+\.writing)")


def name_of(step: int) -> str:
    """Return the name of the folder of the checkpoint after ``step`` steps."""
    return f"step_{step:07d}"


def step_of(folder: Path) -> Optional[int]:
    """Return the step of a checkpoint by its folder's name; ``None`` for another folder."""
    match = _NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else None


class Store:
    """The checkpoints in ``directory``, which need not exist yet.

    After a new one, with ``keep``, all older ones are removed but the ``keep - 1`` newest of them, the best, and those
    that ``spare`` keeps. Those of a later step are of a run that went another way; they are left alone.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._spared: FrozenSet[str] = frozenset()

    def checkpoints(self) -> List[Path]:
        """Return all of them, the oldest first; whole or not."""
        try:
            found = [path for path in self.directory.iterdir() if step_of(path) is not None and path.is_dir()]
        except OSError:
            return []
        return sorted(found, key=lambda path: step_of(path) or 0)

    def newest_whole(self) -> Tuple[Optional[Path], List[str]]:
        """Return the newest checkpoint whose checksums are right, and a line for each newer one that is damaged."""
        self._restore_replaced()
        skipped: List[str] = []
        for path in reversed(self.checkpoints()):
            try:
                verify(path)
                return path, skipped
            except BadCheckpoint as bad:
                skipped.append(f"passed over {path}: {bad}")
        return None, skipped

    def scratch(self, step: int, attempt: str) -> Path:
        """Return the folder in which the checkpoint of ``step`` is written before it has its name."""
        return self.directory / f"{files.HIDDEN}{name_of(step)}.{attempt}.writing"

    def commit(
        self, scratch: Path, manifest: Manifest, entries: Mapping[str, FileEntry], keep: Optional[int], goal: Goal
    ) -> Path:
        """Make ``scratch`` the checkpoint of its step, then move the pointers, then remove the oldest.

        ``keep`` is ``None``: of none. ``entries`` are what the writers put there. A failure before the renaming leaves
        everything older as it was.
        """
        manifest = Manifest(**{**manifest.__dict__, "files": dict(entries)})
        files.write_file(scratch / MANIFEST, manifest.to_bytes())
        for path in scratch.iterdir():  # the writers' lists; the manifest says all of it
            if path.name != MANIFEST and path.name not in manifest.files:
                files.remove_file(path)
        files.flush_folder(scratch)
        path = self.directory / name_of(manifest.step)
        files.replace_folder(scratch, path)
        files.replace_file(self.directory / LAST, f"{path.name}\n".encode())
        self._move_best(path, manifest, goal)
        self._prune(manifest.step, keep)
        return path

    def _move_best(self, path: Path, manifest: Manifest, goal: Goal) -> None:
        cost = goal.cost(manifest.evaluation)
        if cost is None:
            return
        before = self.best()
        if before is not None and (self.directory / before["checkpoint"]).is_dir():
            known = goal.cost({before["metric"]: before["value"]})
            if known is not None and known <= cost:
                return
        content = {"checkpoint": path.name, "metric": goal.metric, "value": manifest.evaluation[goal.metric]}
        files.replace_file(self.directory / BEST, (json.dumps(content) + "\n").encode())

    def best(self) -> Optional[Dict]:
        """Return ``{"checkpoint": name, "metric": ..., "value": ...}`` of the best one, if any was evaluated."""
        try:
            content = json.loads((self.directory / BEST).read_text(encoding="utf-8"))
            sound = {name: type(content[name]) for name in ("checkpoint", "metric", "value")}
            return content if sound["checkpoint"] is sound["metric"] is str and sound["value"] in (int, float) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def last(self) -> Optional[str]:
        """Return the name in the pointer to the last one."""
        try:
            return (self.directory / LAST).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None

    def surplus(self, keep: Optional[int]) -> List[Path]:
        """Return the checkpoints beyond the ``keep`` newest and the best, the oldest first."""
        return self._without_best(self.checkpoints()[:-keep] if keep is not None else [])

    def spare(self, keep: Optional[int]) -> None:
        """Never remove what is beyond ``keep`` already: from now on no more is removed than is added."""
        self._spared = frozenset(path.name for path in self.surplus(keep))

    def _prune(self, step: int, keep: Optional[int]) -> None:
        if keep is None:
            return
        older = [path for path in self.checkpoints() if (step_of(path) or 0) < step and path.name not in self._spared]
        for path in self._without_best(older[: max(0, len(older) - keep + 1)]):
            files.remove_folder(path)

    def _without_best(self, paths: List[Path]) -> List[Path]:
        best = (self.best() or {}).get("checkpoint")
        return [path for path in paths if path.name != best]

    def _restore_replaced(self) -> None:
        """Put back a checkpoint that was moved aside by a run that ended before it put another in its place."""
        for hidden in self.directory.glob(f"{files.HIDDEN}step_*.{_REPLACED}"):
            path = hidden.with_name(hidden.name[len(files.HIDDEN) : -len(_REPLACED) - 1])
            if not path.exists():
                with contextlib.suppress(OSError):  # somebody looks who may not write here
                    files.restore_replaced(path)

    def sweep(self) -> None:
        """Remove what an interrupted run left half written or half removed. Only while nobody else writes here."""
        self._restore_replaced()
        if self.directory.is_dir():
            for path in self.directory.glob(f"{files.HIDDEN}step_*"):
                if _OURS.fullmatch(path.name):
                    files.remove_folder(path)
