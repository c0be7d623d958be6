"""Files and folders appear whole or not at all, wherever the process is killed."""

from __future__ import annotations

import fcntl
import os

import pytest

from pipeloom.core.base import files

pytestmark = pytest.mark.fast


def contents(folder):
    """What a reader sees: names without a dot in front, and what is in them."""
    return {
        path.name: contents(path) if path.is_dir() else path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith(files.HIDDEN)
    }


def fill(path, content):
    with files.whole_folder(path) as scratch:
        (scratch / "a").write_bytes(content)
        (scratch / "b").write_bytes(content)


def killed_at(number, action):
    """Do ``action`` in a process that ends at write point ``number``; return whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [number]

        def crossing(point):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

        files.crossing = crossing
        try:
            action()
        finally:
            os._exit(0)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_anywhere_it_is_old_or_new(tmp_path, kind, before):
    path = tmp_path / "it"
    old, new = ((content if kind == "file" else dict(a=content, b=content)) for content in (b"old", b"new"))
    write = files.replace_file if kind == "file" else fill
    number = 0
    while True:
        if before:
            write(path, b"old")
        killed = killed_at(number, lambda: write(path, b"new"))
        files.restore_replaced(path)
        assert contents(tmp_path) in (dict(it=old) if before else {}, dict(it=new)), number
        write(path, b"new")  # the next writer removes what the killed one left
        assert contents(tmp_path) == dict(it=new) and [child.name for child in tmp_path.iterdir()] == ["it"], number
        if not killed:
            break
        files.remove_file(path) if kind == "file" else files.remove_folder(path)
        number += 1
    assert number >= 6


def test_what_another_process_is_writing_stays(tmp_path):
    """A scratch folder is its writer's as long as that lives, however old it is."""
    theirs, dead = tmp_path / ".it.1.writing", tmp_path / ".it.2.writing"
    for scratch in (theirs, dead):
        scratch.mkdir()
        os.utime(scratch, (0, 0))
    handle = os.open(theirs, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    fill(tmp_path / "it", b"new")
    os.close(handle)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".it.1.writing", "it"]
    fill(tmp_path / "other", b"new")
    assert theirs.exists()  # of a folder with another name


def test_where_folders_cannot_be_locked_age_tells(tmp_path, monkeypatch):
    def no_locks(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    old, young = tmp_path / ".it.1.writing", tmp_path / ".it.2.writing"
    for scratch in (old, young):
        scratch.mkdir()
    os.utime(old, (0, 0))
    fill(tmp_path / "it", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".it.2.writing", "it"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path, folder = tmp_path / "file", tmp_path / "folder"
    files.replace_file(path, b"old")
    fill(folder, b"old")

    def pieces():
        yield b"new"
        raise KeyError("of the maker")

    with pytest.raises(KeyError):
        files.replace_file(path, pieces())
    with pytest.raises(KeyError), files.whole_folder(folder) as scratch:
        (scratch / "a").write_bytes(b"new")
        raise KeyError("of the maker")
    with files.whole_folder(folder):
        pass  # nothing was put into it
    assert contents(tmp_path) == {"file": b"old", "folder": {"a": b"old", "b": b"old"}}
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_of_the_disk_names_the_path_that_was_to_be_written(tmp_path):
    for write in (files.write_file, files.replace_file):
        with pytest.raises(files.WriteError, match="No such file") as error:
            write(tmp_path / "absent" / "file", b"")
        assert error.value.filename == str(tmp_path / "absent" / "file")
    full = files.Path("/dev/full")
    with pytest.raises(files.WriteError, match="No space left.*/dev/full"):
        files.write_file(full, b"x")


def test_the_digest_is_that_of_the_whole_content(tmp_path):
    digest, size = files.replace_file(tmp_path / "file", iter([b"ab", memoryview(b"c")]))
    assert (digest, size) == (files.sha256_of(tmp_path / "file"), 3) and (tmp_path / "file").read_bytes() == b"abc"
