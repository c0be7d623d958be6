"""Tensors in safetensors files, written one after the other and read one by one.

The library writes a file from a dict of all its tensors, and so needs them twice; the format is a length, a JSON header
and the bytes in a row (https://huggingface.co/docs/safetensors), which is written here as it comes. Reading is the
library's.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union

import numpy as np

_DTYPES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float64): "F64",
    np.dtype(np.float16): "F16",
    np.dtype(np.int64): "I64",
    np.dtype(np.int32): "I32",
}
#: Bytes of a number, by the type's name in a safetensors header.
SIZES = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}
_PIECE = 1 << 24

#: Types of tensors that become float32, as a safetensors header names them.
FLOATS = ("F16", "BF16", "F32", "F64")


def pieces(tensors: Mapping[str, np.ndarray]) -> Iterator[memoryview]:
    """Yield the bytes of a safetensors file of ``tensors``. Raises ``TypeError`` for a dtype not in ``_DTYPES``."""
    return streamed({name: (array.dtype, array.shape) for name, array in tensors.items()}, tensors.values())


def streamed(
    kinds: Mapping[str, Tuple[Union[np.dtype, str], Tuple[int, ...]]],
    arrays: Iterable[np.ndarray],
    metadata: Optional[Mapping[str, str]] = None,
) -> Iterator[memoryview]:
    """Yield the bytes of a safetensors file whose ``arrays`` are made one after the other.

    ``kinds``: dtype and shape by name, in the order of ``arrays``; or the type's name in a safetensors header, of
    which the array has the bytes. ``metadata``: texts by name that go into the header. Raises ``TypeError`` as
    ``pieces``.
    """
    header: Dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in kinds.items():
        kind = dtype if isinstance(dtype, str) else _DTYPES.get(dtype)
        if kind is None:
            raise TypeError(f"tensor {name} is of {dtype}")
        size = math.prod(shape) * SIZES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    yield memoryview(struct.pack("<Q", len(text)) + text)
    for array in arrays:
        data = np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE]
        del array, data  # before the next one is made


def headers(path: Path) -> List[Tuple[str, Tuple[int, ...], str]]:
    """Return ``(name, shape, dtype)`` of each tensor of a file. Raises ``OSError``; ``ValueError`` if damaged."""
    with opened(path) as file:
        parts = [(name, file.get_slice(name)) for name in file.keys()]
        return [(name, tuple(part.get_shape()), part.get_dtype()) for name, part in parts]


def read(path: Path, name: str) -> np.ndarray:
    """Read one tensor of a file, and nothing else of it. Raises ``OSError``, ``ValueError``."""
    # Opened anew for each: the library maps the file, and its pages would add up to a copy of it in this process.
    with opened(path) as file:
        return file.get_tensor(name)


def read_float32(path: Path, name: str, index: Optional[Tuple[slice, ...]] = None) -> np.ndarray:
    """Return one tensor of a file, or the part ``index`` of it, as a new float32 array.

    Raises ``ValueError`` for a type that is not one of ``FLOATS`` too.
    """
    with opened(path) as file:
        part = file.get_slice(name)
        kind, shape = part.get_dtype(), tuple(part.get_shape())
        if kind not in FLOATS:
            raise ValueError(f"'{name}' is of type {kind}")
        if kind != "BF16":
            return (file.get_tensor(name) if index is None else part[index]).astype(np.float32)
    # numpy has no bfloat16: it is the upper half of a float32. The library has checked the header.
    with open(path, "rb") as data:
        (size,) = struct.unpack("<Q", data.read(8))
        start = json.loads(data.read(size))[name]["data_offsets"][0]
    if 0 in shape:
        return np.zeros(shape, np.float32)[index or ()]
    halves = np.memmap(path, "<u2", "r", 8 + size + start, shape)[index or ()]
    return np.asarray(halves.astype(np.uint32) << 16).view(np.float32)


class opened:
    """Open a file by ``safe_open``; what that raises for a damaged file becomes ``ValueError``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self):
        from safetensors import SafetensorError, safe_open

        self._kind = SafetensorError
        try:
            self._file = safe_open(str(self._path), framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{self._path.name} is damaged or no safetensors file ({error})") from None
        return self._file.__enter__()

    def __exit__(self, kind, error, trace):
        self._file.__exit__(kind, error, trace)
        if kind is not None and issubclass(kind, self._kind):
            raise ValueError(f"{self._path.name}: {error}") from None
        return False
