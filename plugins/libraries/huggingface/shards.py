"""Write tensors as HuggingFace folders have them: in one file or several, in single or half precision."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Dict, Iterator, List, Mapping

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.files import write_file
from pipeloom.core.checkpoint import tensors
from pipeloom.plugins.libraries.huggingface.folder import INDEX, TENSORS, Folder

#: What ``--dtype`` may say, with the name of the type in a safetensors header.
PRECISIONS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_UNITS = {"": 1, **{f"{letter}B": 10 ** (3 * power) for power, letter in enumerate("KMGT", 1)}}
_UNITS.update({f"{letter}IB": 2 ** (10 * power) for power, letter in enumerate("KMGT", 1)})


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` names: a number, with KB, MB, GB, TB (powers of 1000) or KiB ... TiB (of 1024).

    Raises ``UsageError``.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text.strip().upper())
    size = float(found.group(1)) * _UNITS[found.group(2)] if found and found.group(2) in _UNITS else 0.0
    if size < 1:
        raise UsageError(f"--max_shard_size {text}: give a size, for instance 5GB or 500MB")
    return int(size)


def write_tensors(
    folder: Path, source: Folder, stored: Mapping[str, str], precision: str, max_bytes: int, metadata: Mapping[str, str]
) -> None:
    """Write tensors into ``folder``: ``stored`` gives for each name the tensor of ``source`` that it is.

    They are read one after the other, and written as ``precision`` (of ``PRECISIONS``). Files hold ``max_bytes`` at
    most, unless one tensor is larger; with several there is an index too. Raises ``UsageError`` for a number that the
    precision cannot hold, ``OSError``.
    """
    kind = PRECISIONS[precision]
    shapes = {name: source.tensors[there][0] for name, there in stored.items()}
    sizes = {name: math.prod(shape) * tensors.SIZES[kind] for name, shape in shapes.items()}
    shards = split_into_shards(sizes, max_bytes)

    def values(names: List[str]) -> Iterator[np.ndarray]:
        for name in names:
            try:
                yield in_precision(source.read(stored[name]), kind)
            except OverflowError as error:
                raise source.error(f"'{name}' has {error}: give another --dtype") from None

    weight_map: Dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = TENSORS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        kinds = {name: (kind, shapes[name]) for name in names}
        write_file(folder / file, tensors.streamed(kinds, values(names), metadata))
        weight_map.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        write_file(folder / INDEX, (json.dumps(index, indent=2, sort_keys=True) + "\n").encode())


def split_into_shards(sizes: Mapping[str, int], max_bytes: int) -> List[List[str]]:
    """Return the names that go into each file, as ``huggingface_hub.split_torch_state_dict_into_shards`` has it: in
    order, a file as full as can be; a tensor of more than ``max_bytes`` has one alone."""
    shards: List[List[str]] = []
    current: List[str] = []
    filled = 0
    for name, size in sizes.items():
        if size > max_bytes:
            shards.append([name])
            continue
        if filled + size > max_bytes:
            shards.append(current)
            current, filled = [], 0
        current.append(name)
        filled += size
    return [*shards, current] if current or not shards else shards


def in_precision(array: np.ndarray, kind: str) -> np.ndarray:
    """Return a float32 array as one whose bytes are of the type ``kind``: ``"F32"``, ``"F16"`` or ``"BF16"``.

    Rounded to the nearest, of two as near to the even one, as torch does. Raises ``OverflowError`` where a finite
    number becomes infinite.
    """
    if kind == "F32":
        return array
    rounded: np.ndarray
    if kind == "F16":
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float16)
        infinite = np.isinf(rounded)
    else:  # the upper half of the bits, which numpy has no type for
        bits = array.view(np.uint32)
        halves = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
        rounded = np.where(np.isnan(array), np.uint16(0x7FC0), halves)
        infinite = (rounded & 0x7FFF) == 0x7F80
    if (infinite & np.isfinite(array)).any():
        raise OverflowError(f"numbers up to {np.abs(array[np.isfinite(array)]).max():.4g}, which {kind} cannot hold")
    return rounded
