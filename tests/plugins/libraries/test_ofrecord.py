"""The OFRecord format and the dataset that reads it."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from shared_data import shared

from pipeloom.core.base.errors import PipeloomError, RunError, UsageError
from pipeloom.core.contract.dataset import Field
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.ofrecord.records import BadRecord, decode, encode, index_part, write_part

pytestmark = pytest.mark.fast

IDS = Field("ids", (4,), "int32", low=0, high=100)
WEIGHTS = Field("weights", (2,), "float32")


def record(start: int) -> dict:
    return {"ids": np.arange(start, start + 4, dtype=np.int32), "weights": np.array([start, 0.5], np.float32)}


def dataset(path, fields=(IDS, WEIGHTS), **kwargs) -> OFRecordDataset:
    return OFRecordDataset(path, fields, task="pretraining", vocab_size=kwargs.pop("vocab_size", 100), **kwargs)


def one_line(error: pytest.ExceptionInfo) -> str:
    assert isinstance(error.value, PipeloomError)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def part(tmp_path):
    write_part(tmp_path / "part-0", map(record, range(10)))
    return tmp_path / "part-0"


arrays = st.one_of(
    *(npst.arrays(dtype, st.integers(0, 20)) for dtype in (np.int32, np.int64, np.float32, np.float64)),
    st.lists(st.binary(max_size=8), max_size=5).map(lambda values: np.array(values, dtype=object)),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), arrays, max_size=6))
def test_what_was_encoded_is_decoded(fields):
    data = encode(fields)
    decoded = decode(data)
    assert decoded.keys() == fields.keys()
    for name, array in fields.items():
        assert decoded[name].dtype == array.dtype
        np.testing.assert_array_equal(decoded[name], array)
    assert encode(dict(reversed(list(fields.items())))) == data


def test_the_bytes_are_those_of_the_format():
    # map entry { key "a", value { int32_list (4) { packed 1, 300 } } }, by hand from the protobuf wire format
    assert encode({"a": np.array([1, 300], np.int32)}) == bytes.fromhex("0a0c 0a0161 1207 2205 0a03 01ac02")


def test_unknown_dtype_is_an_error_that_names_the_field():
    with pytest.raises(TypeError, match="field 'x'.*bool"):
        encode({"x": np.array([True])})


@pytest.mark.parametrize("garbage", [b"hello", b"\xff\xff\xff", encode(record(0))[:-3]])
def test_garbage_is_no_record(garbage, recwarn):
    with pytest.raises(BadRecord):
        decode(garbage, ["ids"])


def test_a_part_is_indexed_and_read_at_random(part):
    index = index_part(part)
    assert index.dtype == np.int64 and index.shape == (10, 2)
    data = dataset(part)
    batch = data.read(np.array([7, 0, 7]), ["weights", "ids"])
    assert list(batch) == ["weights", "ids"]
    np.testing.assert_array_equal(batch["ids"][:, 0], [7, 0, 7])
    np.testing.assert_array_equal(batch["weights"], np.array([[7, 0.5], [0, 0.5], [7, 0.5]], np.float32))
    assert batch["ids"].dtype == np.int32 and batch["weights"].dtype == np.float32


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    for number, start in ((10, 20), (2, 10), (0, 0)):
        write_part(tmp_path / f"part-{number}", [record(start), record(start + 1)])
    (tmp_path / "meta.json").write_text("{}")
    (tmp_path / "part-3").mkdir()
    data = dataset(tmp_path)
    assert len(data) == 6
    assert data.read(range(6), ["ids"])["ids"][:, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert "6 samples in 3 parts" in data.describe()


def test_more_parts_than_maps_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeloom.plugins.libraries.ofrecord.reader._MAX_OPEN_PARTS", 2)
    for number in range(6):
        write_part(tmp_path / f"part-{number}", [record(number)])
    data = dataset(tmp_path)
    order = [5, 0, 3, 1, 4, 2, 5]
    assert data.read(order, ["ids"])["ids"][:, 0].tolist() == order
    assert len(data._maps) == 2


def test_a_closed_forked_or_pickled_dataset_still_reads(part):
    data = dataset(part)
    data.close()
    data.close()
    assert data.read([3], ["ids"])["ids"][0, 0] == 3
    assert pickle.loads(pickle.dumps(data)).read([4], ["ids"])["ids"][0, 0] == 4
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            good = all(data.read([i % 10], ["ids"])["ids"][0, 0] == i % 10 for i in range(200))
            os._exit(0 if good else 1)
        children.append(child)
    assert all(data.read([i % 10], ["ids"])["ids"][0, 0] == i % 10 for i in range(200))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def test_a_failed_write_leaves_the_old_part_and_nothing_else(part):
    before = part.read_bytes()

    def failing():
        yield record(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_part(part, failing())
    assert part.read_bytes() == before
    assert [path.name for path in part.parent.iterdir()] == ["part-0"]


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path):
    with pytest.raises(RunError, match="cannot write .*part-0: No such file") as error:
        write_part(tmp_path / "absent" / "part-0", [record(0)])
    one_line(error)


@pytest.mark.parametrize(
    "size, record_number, says",
    [
        (0, 0, "empty"),
        (3, 0, "ends inside the length"),
        (-1, 9, "the file ends after"),
        (-40, 9, "the file ends after"),
    ],
)
def test_a_truncated_file_names_file_and_record(part, size, record_number, says):
    os.truncate(part, size if size >= 0 else part.stat().st_size + size)
    with pytest.raises(UsageError, match=f"part-0 record {record_number}: .*{says}") as error:
        dataset(part)
    one_line(error)


@pytest.mark.parametrize("length", [-1, 1 << 40])
def test_an_impossible_length_names_file_and_record(part, length):
    with open(part, "ab") as file:
        file.write(struct.pack("<q", length))
    with pytest.raises(UsageError, match=f"part-0 record 10: its length would be {length} bytes"):
        dataset(part)


def test_wrong_length_names_the_option(part):
    field = Field("ids", (8,), "int32")
    with pytest.raises(UsageError, match="part-0 record 0: field 'ids' has 4 values, --seq_length 8 needs 8$") as error:
        dataset(part, [field], options={"ids": "--seq_length 8"})
    one_line(error)


def test_missing_field_lists_those_there_are(part):
    with pytest.raises(UsageError, match=r"part-0 record 0: has no field 'labels' \(it has ids, weights\)"):
        dataset(part, [Field("labels", (1,), "int32")])


def test_wrong_kind_says_what_it_should_be(part):
    with pytest.raises(UsageError, match="part-0 record 0: field 'weights' is a list of float32, it should be int32"):
        dataset(part, [Field("weights", (2,), "int32")])


@pytest.mark.parametrize(
    "bad, says",
    [
        (
            {"ids": np.array([1, 2, 100, 3], np.int32)},
            "field 'ids' has the value 100 at position 2, --vocab_size 100 allows 0 to 99",
        ),
        ({"ids": np.array([1, -1, 2, 3], np.int32)}, "field 'ids' has the value -1 at position 1"),
        ({"ids": np.array([1], np.int32)}, "field 'ids' has 1 values"),
        ({"weights": np.zeros(2)}, "field 'weights' is a list of float64"),
    ],
)
def test_a_bad_record_further_on_is_found_when_it_is_read(tmp_path, bad, says):
    write_part(tmp_path / "part-0", [record(0)])
    write_part(tmp_path / "part-1", [record(1), {**record(2), **bad}])
    data = dataset(tmp_path)
    data.read([0, 1], ["ids", "weights"])
    with pytest.raises(RunError, match=f"part-1 record 1: {says}") as error:
        data.read([0, 2], ["ids", "weights"])
    one_line(error)


def test_not_a_number_is_out_of_bounds(tmp_path):
    write_part(tmp_path / "part-0", [record(0), {**record(1), "weights": np.array([0, np.nan], np.float32)}])
    data = dataset(tmp_path, [Field("weights", (2,), "float32", low=0, high=2)])
    with pytest.raises(RunError, match="record 1: field 'weights' has the value nan at position 1"):
        data.read([1], ["weights"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_field_without_bounds_must_be_finite_too(tmp_path, value):
    write_part(tmp_path / "part-0", [record(0), {**record(1), "weights": np.array([0, value], np.float32)}])
    with pytest.raises(
        RunError,
        match=f"part-0 record 1: field 'weights' has the value {value} at position 1, it must be a finite number",
    ) as error:
        dataset(tmp_path).read([0, 1], ["ids", "weights"])
    one_line(error)


def test_a_field_whose_name_is_damaged(tmp_path):
    write_part(tmp_path / "part-0", [record(0)])
    data = (tmp_path / "part-0").read_bytes().replace(b"weights", b"weigh\xfft")
    (tmp_path / "part-0").write_bytes(data)
    with pytest.raises(UsageError, match="part-0 record 0: has a field whose name is not text; it is damaged"):
        dataset(tmp_path)
    (tmp_path / "part-0").write_bytes(data.replace(b"weigh\xfft", b"weigh\n\x1b"))
    with pytest.raises(UsageError, match=r"has no field 'weights' \(it has ids, weigh\\n\\x1b\)") as error:
        dataset(tmp_path)
    one_line(error)


def test_only_the_named_fields_are_decoded(tmp_path):
    write_part(tmp_path / "part-0", [record(0), {"ids": record(1)["ids"]}])
    data = dataset(tmp_path)
    assert data.read([1], ["ids"])["ids"][0, 0] == 1
    with pytest.raises(RunError, match="record 1: has no field 'weights'"):
        data.read([1], ["weights"])


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_out_of_range_is_an_error_of_the_caller(part, index):
    with pytest.raises(IndexError):
        dataset(part).read([index], ["ids"])


def test_a_file_that_changes_in_use_is_noticed(part):
    data = dataset(part)
    data.close()
    os.truncate(part, part.stat().st_size - 1)
    with pytest.raises(RunError, match="part-0 was changed while it was in use") as error:
        data.read([0], ["ids"])
    one_line(error)


def test_folder_without_parts_and_misspelt_folder(tmp_path):
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "data.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match="no files part-.* in .*wiki; give a folder") as error:
        dataset(tmp_path / "wiki")
    one_line(error)
    with pytest.raises(UsageError, match=r"no file or folder .*wikki \(did you mean 'wiki'\?\)"):
        dataset(tmp_path / "wikki")
    with pytest.raises(UsageError, match="no file or folder"):
        dataset(tmp_path / "absent" / "deeper")


def test_the_public_file_survives_decoding_and_encoding(tmp_path):
    source = shared("wiki_ofrecord_seq_len_128/part-0")
    data = source.read_bytes()
    index = index_part(source)
    assert len(index) == 1024
    records = [decode(data[offset : offset + length]) for offset, length in index.tolist()]
    assert write_part(tmp_path / "part-0", records) == 1024
    assert (tmp_path / "part-0").stat().st_size == len(data)  # the same messages, with the map sorted
    copy = (tmp_path / "part-0").read_bytes()
    for (offset, length), old in zip(index_part(tmp_path / "part-0").tolist(), records):
        new = decode(copy[offset : offset + length])
        assert new.keys() == old.keys()
        assert all(new[name].dtype == old[name].dtype and np.array_equal(new[name], old[name]) for name in old)


def test_the_data_room_does_not_import_the_engine():
    modules = [
        "core.contract.dataset",
        "core.data.order",
        "plugins.libraries.ofrecord.reader",
        "plugins.libraries.text",
    ]
    code = "".join(f"import pipeloom.{module}\n" for module in modules)
    code += "import pipeloom.plugins.datasets.wiki_ofrecord.sample, sys\nassert 'oneflow' not in sys.modules"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
