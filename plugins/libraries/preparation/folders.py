"""Folders with a checksum of each of their files in ``meta.json``, and the cache of such folders."""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

from pipeloom.core.base.cache import cache_root
from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import remove_abandoned, whole_folder

_LOCK_SECONDS = 60  # how long to wait for another process that builds


def ensure_folder(
    kind: str, identity: str, build: Callable[[Path], Any], what: str, intact: Optional[Callable[[Path], bool]] = None
) -> Path:
    """Return the folder of the cache for what ``identity`` says in full; ``build(folder)`` makes it where need be.

    ``build`` uses :func:`write_folder`. A folder that is not ``intact``, by default one whose files do not match their
    checksums, is built again. Raises ``UsageError`` where the cache (:func:`cache_root`) cannot be written; ``what``
    names the content in it.
    """
    intact = is_intact if intact is None else intact
    root = cache_root()
    folder = root / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if intact(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_builder(root):
            if not intact(folder):  # another process may have built it while this one waited
                remove_abandoned(root)
                build(folder)
    except (OSError, RunError) as error:
        if intact(folder):  # another process, which the lock did not keep out, was faster
            return folder
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot build {what} in the cache {root}: {reason}; set PIPELOOM_CACHE to a folder that can be "
            "written to and has room"
        ) from error
    return folder


def write_folder(folder: Path, fill: Callable[[Path], Dict[str, Any]]) -> None:
    """Make ``folder``, whole, in place of what may stand there.

    ``fill(scratch)`` writes files into an empty folder and returns what ``meta.json`` shall hold besides their
    checksums. Raises ``OSError``, and what ``fill`` raises; then nothing is left behind.
    """
    with whole_folder(folder) as scratch:
        meta = fill(scratch)
        files = {path.name: _checksum(path) for path in sorted(scratch.iterdir())}
        (scratch / "meta.json").write_text(json.dumps({**meta, "files": files}, indent=1) + "\n", encoding="utf-8")


def _checksum(path: Path) -> Dict[str, int]:
    size = crc32 = 0
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            size, crc32 = size + len(piece), zlib.crc32(piece, crc32)
    return {"bytes": size, "crc32": crc32}


def is_intact(folder: Path) -> bool:
    """Return whether the folder is there, with just the files that its meta.json lists and their checksums."""
    try:
        files = json.loads((folder / "meta.json").read_bytes())["files"]
        listed = {path.name for path in folder.iterdir()} - {"meta.json"}
        return listed == set(files) and all(_checksum(folder / name) == files[name] for name in files)
    except (OSError, ValueError, LookupError, TypeError):  # absent, unreadable, or not the JSON that was written
        return False


@contextmanager
def _only_builder(root: Path) -> Iterator[None]:
    """Let one process at a time build in this cache; the others wait and then find it ready.

    This only saves work: correctness rests on the rename. So after a minute, or on a file system without
    locks, the caller just goes on. The kernel frees the lock of a process that dies.
    """
    try:
        lock = open(root / ".lock", "ab")
    except OSError:  # of another user, perhaps; if nothing can be written here, building will say so
        yield
        return
    with lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
