"""The index of a folder of records: it saves the scan and finds damage; it never hides a change."""

from __future__ import annotations

import shutil
import zlib

import numpy as np
import pytest

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.contract.dataset import Field
from pipeloom.plugins.libraries.ofrecord.index import INDEX, find_parts, make_index, read_index
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.ofrecord.records import encode, index_part, write_part

pytestmark = pytest.mark.fast

FIELDS = [Field("ids", (4,), "int32", low=0, high=1000)]


def record(number: int):
    return {"ids": np.arange(number, number + 4, dtype=np.int32)}


@pytest.fixture
def folder(tmp_path):
    for part, numbers in ((0, range(3)), (2, range(3, 8)), (10, range(8, 9))):
        write_part(tmp_path / f"part-{part}", map(record, numbers))
    make_index(tmp_path)
    return tmp_path


def opened(path):
    return OFRecordDataset(path, FIELDS, "task", 1000)


def test_it_says_where_every_record_is_and_what_its_checksum_is(folder):
    index = read_index(folder)
    assert [(entry.name, entry.records) for entry in index.entries] == [("part-0", 3), ("part-2", 5), ("part-10", 1)]
    for number, part in enumerate(find_parts(folder)):
        rows, crcs = index.part(number)
        assert (rows == index_part(part)).all()
        assert crcs.tolist() == [zlib.crc32(encode(record(i))) for i in ((0, 1, 2), (3, 4, 5, 6, 7), (8,))[number]]
    assert sorted(path.name for path in folder.iterdir()) == [INDEX, "part-0", "part-10", "part-2"]
    before = (folder / INDEX).read_bytes()
    assert make_index(folder).read_bytes() == before


def test_the_reader_needs_no_scan_and_reads_the_same(folder, monkeypatch):
    with_index, scanned = opened(folder), []
    monkeypatch.setattr(
        "pipeloom.plugins.libraries.ofrecord.reader.index_part", lambda part: scanned.append(part) or index_part(part)
    )
    again = opened(folder)
    assert (
        scanned == []
        and opened(folder / "part-2").read([4], ["ids"])["ids"].tolist() == [[7, 8, 9, 10]]
        and scanned == []
    )
    (folder / INDEX).unlink()
    without = opened(folder)
    assert len(scanned) == 3 and without.fingerprint() == with_index.fingerprint()
    assert (without.read(range(9), ["ids"])["ids"] == again.read(range(9), ["ids"])["ids"]).all()


def test_a_changed_byte_is_found_at_the_read_of_its_record(folder):
    data = bytearray((folder / "part-2").read_bytes())
    offset, length = index_part(folder / "part-2")[3]
    position = data.index(encode(record(6)), offset) + length - 1  # a value, which still is one afterwards
    data[position] ^= 1
    (folder / "part-2").write_bytes(bytes(data))
    dataset = opened(folder)
    dataset.read([0, 5, 7], ["ids"])
    with pytest.raises(
        RunError, match=r"part-2 record 3: is damaged \(its checksum is not that of index.safetensors\)"
    ):
        dataset.read([6], ["ids"])


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda folder: (folder / "part-2").unlink(), "part-2 is missing, index.safetensors there lists it"),
        (lambda folder: shutil.copy(folder / "part-0", folder / "part-1"), "part-1 is not in index.safetensors"),
        (
            lambda folder: write_part(folder / "part-0", map(record, range(4))),
            "part-0 has .* bytes, index.safetensors there says",
        ),
        (
            lambda folder: (folder / INDEX).write_bytes(b"nonsense"),
            "index.safetensors cannot be used .* remove it and run 'entry.py prepare validate",
        ),
        (
            lambda folder: (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[:-4]),
            "index.safetensors cannot be used",
        ),
        (
            lambda folder: (folder / INDEX).write_bytes(
                (folder / INDEX).read_bytes().replace(b'\\"records\\": 3', b'\\"records\\": 2')
            ),
            "cannot be used",
        ),
        (
            lambda folder: (folder / INDEX).write_bytes(
                (folder / INDEX).read_bytes().replace(b'"format":"1"', b'"format":"9"')
            ),
            "its format is 9, this pipeloom reads 1",
        ),
    ],
    ids=["missing part", "further part", "longer part", "nonsense", "cut off", "other records", "other format"],
)
def test_what_does_not_agree_is_one_line(folder, change, says):
    change(folder)
    with pytest.raises(UsageError, match=says):
        opened(folder)


def test_a_damaged_part_gives_no_index(tmp_path):
    write_part(tmp_path / "part-0", map(record, range(3)))
    with open(tmp_path / "part-0", "ab") as file:
        file.write(b"\1\2\3")
    with pytest.raises(UsageError, match="part-0 record 3: the file ends inside the length of the record"):
        make_index(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part-0"]
