"""Folders that appear whole or not at all, with a checksum of each file in ``meta.json``; and the cache of such
folders.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

from pipeloom.core.base.errors import RunError, UsageError

_BUILDING = ".building-"  # prefix of the private folders in which folders are built
_STALE_SECONDS = 3600  # a file is flushed more often than that: after an hour, whoever began that folder is dead
_LOCK_SECONDS = 60  # how long to wait for another process that builds


def ensure_folder(kind: str, identity: str, build: Callable[[Path], Any], what: str) -> Path:
    """The folder of the cache for what ``identity`` says in full; ``build(folder)`` makes it (with ``write_folder``)
    where need be.

    The cache is ``$PIPELOOM_CACHE``, else ``$XDG_CACHE_HOME/pipeloom``, else ``~/.cache/pipeloom``. A folder whose
    files do not match their checksums is built again. Raises ``UsageError`` where the cache cannot be written; ``what``
    is the word for the content in it.
    """
    root = cache_root()
    folder = root / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not is_intact(folder):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _only_builder(root):
                if not is_intact(folder):  # another process may have built it while this one waited
                    remove_stale(root)
                    build(folder)
        except (OSError, RunError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot build {what} in the cache {root}: {reason}; set PIPELOOM_CACHE to a folder that can be "
                "written to and has room"
            ) from error
    return folder


def write_folder(folder: Path, fill: Callable[[Path], Dict[str, Any]]) -> None:
    """Make ``folder``, at once, in place of what may stand there; its parent must exist.

    ``fill(private)`` writes files into an empty folder and returns what ``meta.json`` shall say besides their
    checksums. Raises ``OSError``, and what ``fill`` raises; then nothing is left behind.
    """
    # Here and not above: a process that finds its folder ready should not wait for this import.
    from pipeloom.plugins.libraries.ofrecord.records import sync_folder

    private = _private(folder)
    private.mkdir()
    try:
        meta = fill(private)
        files = {path.name: _checksum(path) for path in sorted(private.iterdir())}
        (private / "meta.json").write_text(json.dumps({**meta, "files": files}, indent=1) + "\n", encoding="utf-8")
        for path in private.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(private)
        _install(private, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _install(private: Path, folder: Path) -> None:
    """Renames a finished folder to its name, at once. One that stands there is moved away first, and removed last."""
    old = _private(folder)
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(private, folder)
    except BaseException as error:
        # Another process, which the lock did not keep out, may have been faster.
        if not (isinstance(error, OSError) and is_intact(folder)):
            if old.exists():
                os.rename(old, folder)
            raise
    shutil.rmtree(old, ignore_errors=True)


def _private(folder: Path) -> Path:
    return folder.with_name(f"{_BUILDING}{folder.name}-{uuid.uuid4().hex}")


def _checksum(path: Path) -> Dict[str, int]:
    size = crc32 = 0
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            size, crc32 = size + len(piece), zlib.crc32(piece, crc32)
    return {"bytes": size, "crc32": crc32}


def is_intact(folder: Path) -> bool:
    """Whether the folder is there, with just the files that its meta.json lists and their checksums."""
    try:
        files = json.loads((folder / "meta.json").read_bytes())["files"]
        listed = {path.name for path in folder.iterdir()} - {"meta.json"}
        return listed == set(files) and all(_checksum(folder / name) == files[name] for name in files)
    except (OSError, ValueError, LookupError, TypeError):  # absent, unreadable, or not the JSON that was written
        return False


def remove_stale(root: Path, name: str = "") -> None:
    """Removes what builds that were killed left behind in ``root``: of folders whose names begin with ``name``."""
    for private in root.glob(f"{_BUILDING}{glob.escape(name)}*"):
        try:
            if time.time() - private.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(private, ignore_errors=True)
        except OSError:  # it went away meanwhile
            pass


@contextmanager
def _only_builder(root: Path) -> Iterator[None]:
    """Lets one process at a time build in this cache; the others wait and then find it ready.

    Only saves work: correctness rests on the rename. So after a minute, or on a file system without
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


def cache_root() -> Path:
    """The folder of the cache, which need not exist yet. Raises ``UsageError`` where there is no home folder for it."""
    chosen = os.environ.get("PIPELOOM_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "pipeloom"
    try:
        return Path.home() / ".cache" / "pipeloom"
    except RuntimeError:
        raise UsageError("there is no home folder for the cache; set PIPELOOM_CACHE to a folder") from None
