"""Names of checkpoints: by path, or by its run and which of its checkpoints: ``RUN@best``, ``RUN@last``,
``RUN@120``.

``RUN/checkpoints/best`` and ``.../last`` are files that name a checkpoint, and mean the same as ``RUN@best`` and
``RUN@last``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

from pipeloom.core.base.errors import UsageError, shown, similar_path

_WHICH = re.compile(r"(?:step_)?0*(\d{1,18})|best|last")


def checkpoint_path(text: str) -> Path:
    """Return the path that ``text`` names; a text that names no checkpoint in one of these ways is a path as it is.

    Raises ``UsageError`` where the run is not there, or has no such checkpoint.
    """
    from pipeloom.core.checkpoint.store import BEST, FOLDER, LAST

    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if path.name in (BEST, LAST) and path.parent.name == FOLDER and path.parent.is_dir():
        return _which(path.parent, path.name, text)
    run, at, which = str(path).rpartition("@")
    if not at or not run or not _WHICH.fullmatch(which):
        return path
    folder = Path(run)
    if not folder.is_dir():
        raise UsageError(f"{text}: there is no run directory {run}{similar_path(folder)}")
    if folder.name != FOLDER:
        folder = folder / FOLDER
    if not folder.is_dir():
        raise UsageError(f"{text}: {run} is not a run directory, it has no folder '{FOLDER}'")
    return _which(folder, which, text)


def _which(folder: Path, which: str, text: str) -> Path:
    from pipeloom.core.checkpoint.store import BEST, LAST, Store, name_of, step_of

    store = Store(folder)
    there = [str(step_of(path)) for path in store.checkpoints()]
    if not there:
        raise UsageError(f"{text}: there is no checkpoint in {folder}")
    steps = f"the run has those of the steps {', '.join(there)}"
    if which == BEST:
        name = (store.best() or {}).get("checkpoint")
        if name is None:
            raise UsageError(f"{text}: no checkpoint is the best, since none was evaluated (--eval_every); {steps}")
    elif which == LAST:
        name = store.last()
        if name is None or not _is_there(folder, name):
            return store.checkpoints()[-1]  # a run that ended before it could move the pointer
    else:
        name = name_of(int(_WHICH.fullmatch(which).group(1)))  # type: ignore[union-attr]
    if not _is_there(folder, name):
        raise UsageError(f"{text}: there is no checkpoint {shown(name)[1:-1]}; {steps}")
    return folder / name


def _is_there(folder: Path, name: str) -> bool:
    from pipeloom.core.checkpoint.store import step_of

    path = folder / name
    return path.parent == folder and step_of(path) is not None and path.is_dir()


class CheckpointPath:
    """The type of an option that names a folder to start from: a path, or a checkpoint in one of the ways above.

    A name that may mean another checkpoint tomorrow is kept as the path that it means now.
    """

    wanted, metavar = "a path", "PATH"

    @staticmethod
    def convert(value: Any) -> Optional[str]:
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            return None
        text = str(value)
        path = checkpoint_path(text) if "\0" not in text else Path(text)
        return text if path == Path(text).expanduser() else str(path)
