"""The OFRecord file format: what OneFlow's own reader op reads, without OneFlow.

A part file is a sequence of records, each ``[int64 little-endian length][OFRecord message]``, where
``OFRecord { map<string, Feature> feature = 1; }`` and ``Feature`` is a oneof of five typed lists
(oneflow/core/record/record.proto). The file has no index of its own; :func:`index_part` makes one.
"""

from __future__ import annotations

import mmap
import os
import struct
import warnings
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import WriteError, replace_file

#: Bytes of the length that stands before every record.
PREFIX_BYTES = 8
_PREFIX = struct.Struct("<q")

# numpy dtype of a list -> its place in the oneof. Byte strings travel as object arrays of `bytes`: a
# numpy "S" array would drop the zero bytes at their ends.
_DTYPES = {
    "bytes_list": np.dtype(object),
    "float_list": np.dtype("float32"),
    "double_list": np.dtype("float64"),
    "int32_list": np.dtype("int32"),
    "int64_list": np.dtype("int64"),
}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}

# On garbage, protobuf's C++ parser may warn and return half a message. decode() finds that out by
# itself, and the user gets one line about it, not this warning besides.
warnings.filterwarnings("ignore", message="Unexpected end-group tag", category=RuntimeWarning)


class BadRecord(ValueError):
    """A record is not what it should be. The message names the field; who knows the file adds it."""


def _build_message_class() -> Any:
    """The ``OFRecord`` message class, made in a descriptor pool of its own.

    OneFlow registers the same message in the default pool; a second registration there would clash.
    """
    proto = descriptor_pb2.FieldDescriptorProto
    package = "pipeloom.ofrecord"
    file = descriptor_pb2.FileDescriptorProto(name="pipeloom/ofrecord.proto", package=package, syntax="proto2")
    value_types = (
        ("Bytes", proto.TYPE_BYTES),
        ("Float", proto.TYPE_FLOAT),
        ("Double", proto.TYPE_DOUBLE),
        ("Int32", proto.TYPE_INT32),
        ("Int64", proto.TYPE_INT64),
    )
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, value_type) in enumerate(value_types, start=1):
        message = file.message_type.add(name=name + "List")
        value = message.field.add(name="value", number=1, type=value_type, label=proto.LABEL_REPEATED)
        value.options.packed = value_type != proto.TYPE_BYTES
        feature.field.add(
            name=name.lower() + "_list",
            number=number,
            type=proto.TYPE_MESSAGE,
            type_name=f".{package}.{name}List",
            label=proto.LABEL_OPTIONAL,
            oneof_index=0,
        )
    record = file.message_type.add(name="OFRecord")
    # A protobuf map is a repeated message of key and value, marked as a map.
    entry = record.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=proto.TYPE_MESSAGE, type_name=f".{package}.Feature", label=proto.LABEL_OPTIONAL
    )
    record.field.add(
        name="feature",
        number=1,
        type=proto.TYPE_MESSAGE,
        type_name=f".{package}.OFRecord.FeatureEntry",
        label=proto.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(f"{package}.OFRecord"))


_OFRecord = _build_message_class()


def encode(record: Mapping[str, np.ndarray]) -> bytes:
    """The message of one record, without the length before it. The same arrays give the same bytes.

    Arrays may be int32, int64, float32, float64, or objects that are ``bytes``; the format keeps no
    shape, so they come back flat. Raises ``TypeError`` for any other dtype.
    """
    message = _OFRecord()
    for name, values in record.items():
        array = np.asarray(values)
        kind = _KINDS.get(array.dtype)
        if kind is None:
            known = ", ".join(map(str, _KINDS))
            raise TypeError(f"field '{name}': OFRecord has no list of {array.dtype} (it has {known})")
        getattr(message.feature[name], kind).value.extend(array.ravel().tolist())
    return message.SerializeToString(deterministic=True)  # sorts the map by its keys


def framed(message: bytes) -> bytes:
    """A record as it stands in a part: the message with its length before it."""
    return _PREFIX.pack(len(message)) + message


def decode(data: bytes, fields: Optional[Sequence[str]] = None) -> Dict[str, np.ndarray]:
    """The named fields (all where ``fields`` is None) of one record, each a flat array of its own dtype.

    Raises :class:`BadRecord` where ``data`` is no OFRecord or lacks a field.
    """
    return decode_like(data, fields)[0]


def decode_like(
    data: bytes,
    fields: Optional[Sequence[str]] = None,
    known: Optional[FrozenSet[str]] = None,
) -> Tuple[Dict[str, np.ndarray], FrozenSet[str]]:
    """``decode``, and the names of all fields that the record has. Where they are not ``known``, those of the first
    record, it is bad."""
    message = _OFRecord()
    try:
        complete = message.MergeFromString(data) == len(data)
    except DecodeError:
        complete = False
    if not complete:
        raise BadRecord("is not an OFRecord message")
    feature = message.feature
    # Mostly they are those of the first record, which takes no list of them to see.
    alike = known is not None and len(feature) == len(known) and all(name in feature for name in known)
    there = known if alike and known is not None else frozenset(_names(feature))
    if known is not None and there != known:
        name = min(there ^ known)
        raise BadRecord(
            f"has a field '{name}', the first record has not"
            if name in there
            else f"has no field '{name}', the first record has"
        )
    arrays = {}
    for name in sorted(there) if fields is None else fields:
        # Asked before it is looked up: looking up a missing key of a protobuf map adds it.
        one = feature[name] if name in feature else None
        kind = one.WhichOneof("kind") if one is not None else None
        if kind is None:
            others = ", ".join(sorted(there)) or "none"
            raise BadRecord(f"has no field '{name}' (it has {others if len(others) < 300 else others[:300] + ' ...'})")
        values = getattr(one, kind).value
        if kind == "bytes_list":
            arrays[name] = np.array(list(values), dtype=object)
        else:
            arrays[name] = np.fromiter(values, _DTYPES[kind], len(values))
    return arrays, there


def _names(feature: Any) -> List[str]:
    """The names of a record's fields. Raises :class:`BadRecord` for one that is no UTF-8."""
    try:
        names = list(feature)
    except UnicodeDecodeError:  # so protobuf's Python implementation; the C++ one hands out bytes
        names = [b""]
    if any(isinstance(name, bytes) for name in names):
        raise BadRecord("has a field whose name is not text; it is damaged")
    return sorted(names)


def write_part(path: Union[str, Path], records: Iterable[Mapping[str, np.ndarray]]) -> int:
    """Write the records to one part file and return how many there were.

    The file appears under its name complete and on the disk, or not at all. Raises ``RunError`` where
    it cannot be written.
    """
    count = 0

    def pieces() -> Iterator[bytes]:
        nonlocal count
        for record in records:
            yield framed(encode(record))
            count += 1

    try:
        replace_file(Path(path), pieces())
    except WriteError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
    return count


def index_part(path: Union[str, Path]) -> np.ndarray:
    """Where the records of a part are: int64 ``(records, 2)``, each row (offset, length) of a message in bytes.

    Only the lengths are read, not the messages. Raises ``UsageError`` naming the file and the record
    where the file is empty, cut off, or no OFRecord file.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise UsageError(f"{path} record 0: the file is empty; write or copy it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _scan(path, data, size)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def messages(path: Union[str, Path]) -> Iterator[bytes]:
    """The messages of a part one after another, in memory for one of them. Raises ``UsageError`` as ``index_part``."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            left, number = os.fstat(file.fileno()).st_size, 0
            if left == 0:
                raise UsageError(f"{path} record 0: the file is empty; write or copy it again")
            while left:
                length = _length(file.read(PREFIX_BYTES), left - PREFIX_BYTES, f"{path} record {number}")
                yield file.read(length)
                left, number = left - PREFIX_BYTES - length, number + 1
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def _scan(path: Path, data: mmap.mmap, size: int) -> np.ndarray:
    rows: List[Tuple[int, int]] = []
    position = 0
    while position < size:
        length = _length(
            data[position : position + PREFIX_BYTES], size - position - PREFIX_BYTES, f"{path} record {len(rows)}"
        )
        rows.append((position + PREFIX_BYTES, length))
        position += PREFIX_BYTES + length
    return np.array(rows, dtype=np.int64)


def _length(prefix: bytes, left: int, where: str) -> int:
    """What the 8 bytes before a message say, if it can be so long where ``left`` bytes are left in the file."""
    if left < 0:
        raise UsageError(f"{where}: the file ends inside the length of the record; write or copy the file again")
    (length,) = _PREFIX.unpack(prefix)
    if length < 0 or length > 1 << 31:  # a protobuf message has less than 2 GiB
        raise UsageError(f"{where}: its length would be {length} bytes; this is not an OFRecord file, or it is damaged")
    if length > left:
        raise UsageError(
            f"{where}: it has {length} bytes and the file ends after {left} of them; write or copy the file again"
        )
    return length
