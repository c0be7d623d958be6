"""The files of one writer: tensors as they come, in files that are closed when they are large enough."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np

from pipeloom.core.base import files
from pipeloom.core.checkpoint import tensors
from pipeloom.core.checkpoint.manifest import FileEntry, optimizer_key

#: A file has at most so many bytes of tensors, unless a single one is larger.
FILE_BYTES = 64 << 20


class NotFinite(Exception):
    """A tensor holds a NaN or an infinity; a checkpoint of it would keep the damage."""


class Writer:
    """Writes into ``folder`` as writer ``number``, and last a list of what it wrote, under ``done_name``."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._group = "parameters"
        self._waiting: Dict[str, np.ndarray] = {}
        self._entries: Dict[str, FileEntry] = {}

    def add(self, name: str, kind: str, array: np.ndarray) -> None:
        """Add the value of parameter ``name``, or its optimizer's state of a ``kind``.

        Raises ``OSError``, ``NotFinite``.
        """
        # The sum is the quick question: it is not finite if one of its terms is not.
        with np.errstate(over="ignore"):
            total = array.sum(dtype=np.float32)
        if not np.isfinite(total) and not np.isfinite(array).all():
            raise NotFinite(f"{kind + ' of ' if kind else ''}'{name}' is not finite")
        group = "optimizer" if kind else "parameters"
        # Written out before it grows beyond a file: no more than that waits beside the new tensor.
        if group != self._group or _bytes(self._waiting) + array.nbytes > FILE_BYTES:
            self._write()
        self._group = group
        self._waiting[optimizer_key(kind, name) if kind else name] = array
        if _bytes(self._waiting) >= FILE_BYTES:
            self._write()

    def _write(self) -> None:
        held, self._waiting = self._waiting, {}
        if held:
            count = sum(name.startswith(self._group) for name in self._entries)
            file = f"{self._group}-{self._number:03d}-{count:05d}.safetensors"
            digest, size = files.write_file(self._folder / file, tensors.pieces(held))
            self._entries[file] = FileEntry(digest, size, list(held))

    def finish(self) -> None:
        """Write the rest, and the list, after which the writer's part is whole."""
        self._write()
        content = {name: asdict(entry) for name, entry in self._entries.items()}
        files.replace_file(self._folder / done_name(self._number), json.dumps(content).encode())


def _bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def done_name(number: int) -> str:
    """Return the name of the list of what writer ``number`` wrote."""
    return f"writer-{number:03d}.json"


def collect(folder: Path, number: int) -> Optional[Dict[str, FileEntry]]:
    """Return what writer ``number`` wrote, once it has finished; else ``None``."""
    path = folder / done_name(number)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return {name: FileEntry(**entry) for name, entry in content.items()}
