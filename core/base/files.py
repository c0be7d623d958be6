"""Every change that a checkpoint makes to the disk, one small function each.

They exist so that a test can stop the process at each of them: ``crossing(point)`` is called before and after every
write, flush, rename and removal, and does nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Iterable, Tuple

from pipeloom.plugins.libraries.ofrecord.records import sync_folder

#: Prefix of what is not (or no longer) a checkpoint: being written, or being removed.
HIDDEN = "."


def crossing(point: str) -> None:
    """Called at each write point, with its name; tests replace it."""


def make_folder(path: Path) -> None:
    crossing(f"before mkdir {path.name}")
    path.mkdir(parents=True, exist_ok=True)
    crossing(f"after mkdir {path.name}")


def write_file(path: Path, pieces: Iterable[bytes]) -> Tuple[str, int]:
    """Write a new file and flush it to the disk. Returns the sha256 of its content, in hex, and its bytes."""
    digest, size = hashlib.sha256(), 0
    crossing(f"before write {path.name}")
    try:
        with open(path, "wb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
                del piece  # a view: it would keep its array while the next one is made
                crossing(f"amid write {path.name}")
            file.flush()
            crossing(f"before flush {path.name}")
            os.fsync(file.fileno())
    except OSError as error:  # of a write Python does not say which file
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from None
    crossing(f"after flush {path.name}")
    return digest.hexdigest(), size


def replace_file(path: Path, content: bytes) -> None:
    """Give ``path`` the content at one blow: whoever reads it sees the old one or the new one."""
    temporary = path.with_name(f"{HIDDEN}{path.name}.writing")
    write_file(temporary, [content])
    rename(temporary, path)


def rename(source: Path, target: Path) -> None:
    """Rename, and put the new name on the disk too."""
    crossing(f"before rename {target.name}")
    os.replace(source, target)
    crossing(f"after rename {target.name}")
    sync_folder(target.parent)
    crossing(f"after sync {target.name}")


def sync(folder: Path) -> None:
    crossing(f"before sync {folder.name}")
    sync_folder(folder)


def remove_file(path: Path) -> None:
    crossing(f"before removal {path.name}")
    path.unlink()
    crossing(f"after removal {path.name}")


def hide(path: Path, why: str) -> Path:
    """Rename a folder so that it is no checkpoint any more. Returns its new path."""
    hidden = path.with_name(f"{HIDDEN}{path.name}.{why}")
    if hidden.exists():
        shutil.rmtree(hidden, ignore_errors=True)
    rename(path, hidden)
    return hidden


def is_vacant(path: Path) -> bool:
    """Whether a folder can be put at ``path`` without replacing anything: nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def replace_folder(source: Path, target: Path) -> None:
    """Give the complete folder ``source`` the name ``target``; what stood there moves aside first, and is removed
    last.
    """
    replaced = None if is_vacant(target) else hide(target, "replaced")
    rename(source, target)
    if replaced is not None:
        remove_folder(replaced)


def remove_folder(path: Path) -> None:
    """Remove a folder, which stops being a checkpoint at one blow, before its files go."""
    doomed = path if path.name.startswith(HIDDEN) else hide(path, "removing")
    crossing(f"before removal {path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    crossing(f"after removal {path.name}")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content. Raises ``OSError``."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            piece = file.read(1 << 22)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)


def sample_of_file(path: Path, size: int) -> str:
    """A hash over the first and the last ``size`` bytes of a file. Raises ``OSError``."""
    with open(path, "rb") as file:
        seen = hashlib.sha256(file.read(size))
        file.seek(max(size, os.fstat(file.fileno()).st_size - size))
        seen.update(file.read(size))
    return seen.hexdigest()
