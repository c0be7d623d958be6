"""Files that grow, and how much of them counts: after a crash at any moment just that is there again."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Dict, Sequence

from pipeloom.core.base.errors import RunError
from pipeloom.core.base.files import replace_file

_KEEP_SECONDS = 2.0


class Journal:
    """The files ``names`` of ``folder``, which are only appended to, and the file ``path`` with their sizes and a small
    state.

    ``commit(state)`` makes what was appended, and the state, the ones that are found after a restart; ``keep(state)``
    does so now and then, for callers that come often. Opening cuts off what was appended after the last commit. Raises
    ``RunError`` where a file is shorter than it was.
    """

    def __init__(self, path: Path, folder: Path, names: Sequence[str]) -> None:
        self._path, self._folder = path, folder
        committed = json.loads(path.read_bytes()) if path.exists() else {}
        self.state: Dict[str, Any] = committed.get("state", {})
        self.sizes: Dict[str, int] = committed.get("sizes") or dict.fromkeys(names, 0)
        with ExitStack() as stack:
            self._files = {name: stack.enter_context(self._open(name, size)) for name, size in self.sizes.items()}
            self._open_files = stack.pop_all()
        self._committed = time.monotonic()

    def append(self, name: str, data: bytes) -> None:
        self._files[name].write(data)
        self.sizes[name] += len(data)

    def keep(self, state: Dict[str, Any]) -> None:
        if time.monotonic() - self._committed > _KEEP_SECONDS:
            self.commit(state)

    def commit(self, state: Dict[str, Any]) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.state = state
        replace_file(self._path, json.dumps({"sizes": self.sizes, "state": state}).encode())
        self._committed = time.monotonic()

    def close(self) -> None:
        self._open_files.close()

    def _open(self, name: str, size: int) -> BinaryIO:
        path = self._folder / name
        file = open(path, "r+b" if path.exists() else "w+b")
        there = file.seek(0, os.SEEK_END)
        if there < size:
            file.close()
            raise RunError(f"{path} has {there} bytes where {size} were written; begin again with --overwrite true")
        file.seek(size)
        file.truncate()
        return file
