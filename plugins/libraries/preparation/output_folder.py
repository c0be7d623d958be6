"""The folder that a preparation makes: it appears complete or not at all, and an interrupted one goes on where it
stopped.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any, BinaryIO, Dict, Mapping, Optional

from pipeloom.core.base import files
from pipeloom.core.base.errors import UsageError, shown
from pipeloom.core.base.output import ESCAPE

META = "meta.json"
_SETTINGS = "settings.json"


class OutputFolder:
    """``path``, made of ``settings``: by option (``seed``) the value that decides what comes out.

    While it is made, all is in the hidden folder ``folder`` beside it, what is not for the reader in ``work``. Raises
    ``UsageError`` where ``path``, or an unfinished folder for it, was made of other settings, is not a preparation's,
    or is in use by another process; with ``overwrite`` it is replaced in the end, and an unfinished one of other
    settings removed.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
        self.path = path
        self.folder = path.with_name(f".{path.name}.preparing")
        self.work = self.folder / "work"
        self._settings = json.loads(json.dumps(dict(settings)))  # as they come back from the disk
        self._overwrite = overwrite
        self._lock: Optional[BinaryIO] = None

    def is_ready(self) -> bool:
        """Whether ``path`` is there already, made of these settings."""
        if files.is_vacant(self.path):
            return False
        made = _json(self.path / META)
        if not isinstance(made, dict) or "settings" not in made:
            raise UsageError(
                f"--output {self.path} is there and was not made by 'prepare'; give another folder, or move it away"
            )
        difference = _difference(made["settings"], self._settings)
        if difference is None:
            return not self._overwrite
        if not self._overwrite:
            raise UsageError(
                f"--output {self.path} is there, made with {difference}; give another folder, or --overwrite true"
            )
        return False

    def __enter__(self) -> OutputFolder:
        """Make or find the unfinished folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / "lock", "ab")
        except OSError as error:
            raise UsageError(
                f"--output {self.path} cannot be made: {error.strerror or error}; give a folder that can be"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UsageError(
                f"--output {self.path} is being made by another process; wait for it, or give another folder"
            ) from None
        begun = self._begun()
        difference = _difference(begun, self._settings) if isinstance(begun, dict) else None
        if difference is not None and not self._overwrite:
            self._lock.close()
            raise UsageError(
                f"--output {self.path} was begun with {difference}; finish that, or begin anew with --overwrite true"
            )
        if begun is None or difference is not None:
            self._empty()
            files.replace_file(self.folder / _SETTINGS, json.dumps(self._settings).encode())
        self.work.mkdir(exist_ok=True)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._lock is not None:
            self._lock.close()

    def is_begun(self) -> bool:
        """Whether an earlier try left something to go on from."""
        return any(self.work.iterdir())

    @property
    def is_complete(self) -> bool:
        """Whether all of it was made and only ``install`` did not come to its end."""
        return (self.folder / META).exists()

    def complete(self, meta: Mapping[str, Any]) -> None:
        """Put ``meta.json``, with ``settings`` and ``meta``, beside the rest: from now on it is whole."""
        for path in self.folder.iterdir():
            if path.name not in ("lock", _SETTINGS, "work"):
                files.flush(path)
        text = json.dumps({"settings": self._settings, **meta}, indent=1, ensure_ascii=False) + "\n"
        files.replace_file(self.folder / META, text.encode("utf-8", ESCAPE))  # names of files may be no text

    def install(self) -> None:
        """Give the complete folder its name; what stood there goes."""
        if self.work.exists():
            files.remove_folder(self.work)
        for name in (_SETTINGS, "lock"):
            if (self.folder / name).exists():
                files.remove_file(self.folder / name)
        files.replace_folder(self.folder, self.path)

    def discard(self) -> None:
        """Remove the unfinished folder."""
        files.remove_folder(self.folder)

    def _begun(self) -> Optional[Dict[str, Any]]:
        """The settings of the unfinished folder, if there is one."""
        complete = _json(self.folder / META)
        return complete["settings"] if isinstance(complete, dict) else _json(self.folder / _SETTINGS)

    def _empty(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                files.remove_folder(entry)
            elif entry.name != "lock":
                entry.unlink()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _difference(made: Dict[str, Any], wanted: Dict[str, Any]) -> Optional[str]:
    """``--seed 1, here it is 2``: the first setting in which the two differ."""
    for name in [*wanted, *made]:
        if made.get(name) != wanted.get(name):
            if isinstance(wanted.get(name), (list, dict)):
                return f"another --{name}"
            return f"--{name} {shown(made.get(name))}, here it is {shown(wanted.get(name))}"
    return None
