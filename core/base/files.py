"""How files and folders appear on the disk: whole, or not at all.

Whoever opens a path finds the old content or the new one and never a part of it, also when the process is killed or the
machine loses power at any point. New content is written under a hidden name beside the path, flushed (fsync), given its
name by one rename, and then the folder that holds the name is flushed too.

- :func:`replace_file` does all of that for one file, :func:`replace_files` for several that belong together.
- :func:`whole_folder` does it for a folder that one process fills at one go.
- :func:`write_file` and :func:`replace_folder` are its two halves, for a folder that several processes fill (a
  checkpoint) or that is filled over several tries (``prepare``).

What a killed process leaves behind has a hidden name (``.NAME.``...), which no reader takes for content; the next
writer of the same path removes it. ``crossing(point)`` is called before and after every write, flush, rename and
removal and does nothing, so that a test can stop the process at each of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Tuple, Union

#: Prefix of the name of what is being written or removed.
HIDDEN = "."
_WRITING, _REPLACED = ".writing", ".replaced"
_ABANDONED_SECONDS = 3600.0  # where folders cannot be locked, a scratch folder so old has lost its writer

#: The content of a file, or the pieces of it in order.
Content = Union[bytes, Iterable[Union[bytes, memoryview]]]


class WriteError(OSError):
    """The disk did not take what was written; ``filename`` is the path that was to be written."""


def crossing(point: str) -> None:
    """Do nothing. Tests replace this function to act at a write point."""


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are not there yet. Raises ``OSError``."""
    crossing(f"before mkdir {path.name}")
    path.mkdir(parents=True, exist_ok=True)
    crossing(f"after mkdir {path.name}")


def write_file(path: Path, content: Content) -> Tuple[str, int]:
    """Write a file under its final name and flush it; for files of a folder that nobody sees yet.

    Returns the sha256 of the content, in hex, and its size in bytes. Raises ``WriteError``, and what making the pieces
    of ``content`` raises.
    """
    return _write(path, content, path)


def _write(path: Path, content: Content, shown: Path) -> Tuple[str, int]:
    """Write and flush ``path``; errors name ``shown``."""
    digest, size = hashlib.sha256(), 0
    crossing(f"before write {path.name}")
    with _naming(shown):
        file = open(path, "wb")
    try:
        for piece in [content] if isinstance(content, bytes) else content:
            with _naming(shown):
                file.write(piece)
            digest.update(piece)
            size += len(piece)
            del piece  # a view: it would keep its array while the next one is made
            crossing(f"amid write {path.name}")
        with _naming(shown):
            file.flush()
            crossing(f"before flush {path.name}")
            os.fsync(file.fileno())
    finally:
        with _naming(shown):  # closing writes what is still held
            file.close()
    crossing(f"after flush {path.name}")
    return digest.hexdigest(), size


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise an ``OSError`` from inside as a ``WriteError`` of ``path``; of a write Python does not say which file."""
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def replace_file(path: Path, content: Content) -> Tuple[str, int]:
    """Give ``path`` new content, whole; where that fails the old content stays and nothing else is left.

    Returns and raises as :func:`write_file`.
    """
    temporary = _temporary(path)
    try:
        written = _write(temporary, content, path)
        with _naming(path):
            rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return written


def replace_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Give several files of a folder new content, by name; at no time are old and new ones beside each other.

    Raises ``OSError``.
    """
    for name, content in contents.items():
        _write(_temporary(folder / name), content, folder / name)
    for name in contents:
        if len(contents) > 1 and (folder / name).exists():
            remove_file(folder / name)
    for name in contents:
        rename(_temporary(folder / name), folder / name)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{HIDDEN}{path.name}{_WRITING}")


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder that is flushed already, and flush its new name. Raises ``OSError``."""
    crossing(f"before rename {target.name}")
    os.replace(source, target)
    crossing(f"after rename {target.name}")
    flush(target.parent)
    crossing(f"after sync {target.name}")


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder: the flush of a file alone does not keep its name. Raises ``OSError``."""
    crossing(f"before sync {folder.name}")
    flush(folder)


def flush_tree(folder: Path) -> None:
    """Flush all files and names below a folder, however they were written. Raises ``OSError``."""
    for path in folder.rglob("*"):
        flush(path)
    flush_folder(folder)


def flush(path: Path) -> None:
    """Put the content of a file, or the names in a folder, on the disk. Raises ``OSError``."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """Remove a file. Raises ``OSError``."""
    crossing(f"before removal {path.name}")
    path.unlink()
    crossing(f"after removal {path.name}")


def remove_folder(path: Path) -> None:
    """Remove a folder: it loses its name by one rename, then its files go. Raises ``OSError`` where it has to stay."""
    doomed = path if path.name.startswith(HIDDEN) else _hide(path, ".removing")
    crossing(f"before removal {path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    crossing(f"after removal {path.name}")


def is_vacant(path: Path) -> bool:
    """Return whether a folder can get the name ``path`` without replacing anything: there is none, or an empty one."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def replace_folder(source: Path, target: Path) -> None:
    """Give the complete, flushed folder ``source`` the name ``target``, in place of what may stand there.

    The old folder moves aside first and is removed last. If the process is killed between the two renames, the next
    :func:`restore_replaced` (which :func:`whole_folder` begins with) puts it back. Raises ``OSError``; then the old
    folder is there again.
    """
    replaced = None if is_vacant(target) else _hide(target, _REPLACED)
    try:
        rename(source, target)
    except BaseException:
        if replaced is not None and not target.exists():
            os.replace(replaced, target)
        raise
    if replaced is not None:
        remove_folder(replaced)


def restore_replaced(path: Path) -> None:
    """Put back the folder that :func:`replace_folder` had moved aside where it did not come to its end.

    Only while nobody else writes ``path``. Raises ``OSError``.
    """
    replaced = path.with_name(f"{HIDDEN}{path.name}{_REPLACED}")
    if replaced.exists():
        if path.exists():
            remove_folder(replaced)
        else:
            rename(replaced, path)


def _hide(path: Path, suffix: str) -> Path:
    """Rename a folder so that no reader takes it for content. Returns its new path."""
    hidden = path.with_name(f"{HIDDEN}{path.name}{suffix}")
    if hidden.exists():
        shutil.rmtree(hidden, ignore_errors=True)
    rename(path, hidden)
    return hidden


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty scratch folder, which becomes ``path``, in place of what may stand there, when the block ends.

    Nothing appears, and what stood there stays, where the block raises or puts nothing into the folder. Raises
    ``OSError``.
    """
    restore_replaced(path)
    remove_abandoned(path.parent, path.name)
    scratch, handle = _locked_scratch(path)
    try:
        yield scratch
        if any(scratch.iterdir()):
            flush_tree(scratch)
            replace_folder(scratch, path)
    finally:
        if scratch.exists():
            remove_folder(scratch)
        os.close(handle)


def remove_abandoned(parent: Path, name: str = "") -> None:
    """Remove the scratch folders of killed processes for the folder ``name`` of ``parent``, or for any (default)."""
    for scratch in parent.glob(f"{HIDDEN}{glob.escape(name) or '*'}.*{_WRITING}"):
        if scratch.is_dir() and _is_abandoned(scratch):
            remove_folder(scratch)


def _locked_scratch(path: Path) -> Tuple[Path, int]:
    """Make a scratch folder for ``path``. The kernel holds its lock as long as this process lives."""
    while True:
        scratch = path.with_name(f"{HIDDEN}{path.name}.{uuid.uuid4().hex}{_WRITING}")
        make_folder(scratch)
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(scratch, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if scratch.exists():
                return scratch, handle
            os.close(handle)  # another process saw it before it was locked, and removed it


def _is_abandoned(scratch: Path) -> bool:
    """Return whether the process that made a scratch folder has ended."""
    try:
        handle = os.open(scratch, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(handle).st_mtime > _ABANDONED_SECONDS
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, in hex. Raises ``OSError``."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 22), b""):
            digest.update(piece)
    return digest.hexdigest()


def sample_of_file(path: Path, size: int) -> str:
    """Return a hash over the first and the last ``size`` bytes of a file. Raises ``OSError``."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(size))
        file.seek(max(size, os.fstat(file.fileno()).st_size - size))
        digest.update(file.read(size))
    return digest.hexdigest()
