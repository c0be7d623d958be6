"""Folders that appear whole or not at all. More of them: test_embedded_sample.py (the cache), test_prepare_squad.py
(replacing one).
"""

from __future__ import annotations

import json
import zlib

import pytest

from pipeloom.plugins.libraries.preparation.folders import is_intact, write_folder

pytestmark = pytest.mark.fast


def test_checksums_are_of_whole_files(tmp_path):
    content = bytes(range(256)) * 12000  # more than is read at once

    def fill(private):
        (private / "part-0").write_bytes(content)
        return {"num_samples": 5}

    write_folder(tmp_path / "made", fill)
    assert json.loads((tmp_path / "made" / "meta.json").read_text()) == {
        "num_samples": 5,
        "files": {"part-0": {"bytes": len(content), "crc32": zlib.crc32(content)}},
    }
    assert is_intact(tmp_path / "made") and [path.name for path in tmp_path.iterdir()] == ["made"]
    (tmp_path / "made" / "part-0").write_bytes(b"x" + content[1:])
    assert not is_intact(tmp_path / "made")


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path):
    def fill(private):
        (private / "part-0").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        write_folder(tmp_path / "made", fill)
    assert list(tmp_path.iterdir()) == []
