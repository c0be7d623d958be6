"""Damage to files, drawn from a seeded generator; what a target of the fuzzer consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

Files = Dict[str, bytes]
Mutation = Callable[[Files, np.random.Generator], Files]


@dataclass(frozen=True)
class Target:
    """``files``: the intact files by name. ``mutations``: those of the format alone. ``says``: a pattern that the line
    of a refusal must match; ``{folder}`` in it stands for the folder.
    """

    read: Callable[[Path], None]
    files: Callable[[], Files]
    mutations: Callable[[], Dict[str, Mutation]]
    says: str


def _some(files: Files, rng: np.random.Generator) -> str:
    return str(rng.choice(sorted(files)))


def _span(data: bytes, rng: np.random.Generator, most: int = 64) -> Tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, min(len(data), start + int(rng.integers(1, most + 1)))


def _on_bytes(change: Callable[[bytes, np.random.Generator], bytes]) -> Mutation:
    def mutation(files: Files, rng: np.random.Generator) -> Files:
        name = _some(files, rng)
        return {**files, name: change(files[name], rng)}

    return mutation


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for position in rng.integers(0, max(1, len(data)), int(rng.integers(1, 4))):
        if len(data):
            changed[position] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _zero(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def _duplicate(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng, len(data) + 1)
    return data[:end] + data[start:end] + data[end:]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + rng.bytes(end - start + 1) + data[start:]


def _remove(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng, 12)
    return data[:start] + rng.bytes(end - start) + data[end:]


def _swap(files: Files, rng: np.random.Generator) -> Files:
    first, second = _some(files, rng), _some(files, rng)
    return {**files, first: files[second], second: files[first]}


def _missing(files: Files, rng: np.random.Generator) -> Files:
    gone = _some(files, rng)
    return {name: data for name, data in files.items() if name != gone}


_ODD_JSON: List[Any] = [
    None,
    "",
    "x",
    0,
    -1,
    1.5,
    10**30,
    [],
    {},
    [1],
    {"a": 1},
    [None],
    True,
    "\x1b[2J",
    "a\nb",
    [["a"]],
    {"step": "x"},
    float("nan"),
]


def change_somewhere(content: Any, rng: np.random.Generator) -> None:
    """One value of what JSON stood for, at any depth, is another or gone."""
    place = content
    while True:
        key = (
            list(place)[int(rng.integers(0, len(place)))]
            if isinstance(place, dict)
            else int(rng.integers(0, len(place)))
        )
        if not isinstance(place[key], (dict, list)) or not place[key] or rng.integers(0, 3) == 0:
            break
        place = place[key]
    if rng.integers(0, 4) == 0:
        del place[key]
    else:
        place[key] = _ODD_JSON[int(rng.integers(0, len(_ODD_JSON)))]


GENERAL: Dict[str, Mutation] = {
    "truncate": _on_bytes(lambda data, rng: data[: int(rng.integers(0, len(data) + 1))]),
    "flip bits": _on_bytes(_flip),
    "zero a range": _on_bytes(_zero),
    "duplicate a range": _on_bytes(_duplicate),
    "insert bytes": _on_bytes(_insert),
    "remove a range": _on_bytes(_remove),
    "overwrite a range": _on_bytes(_overwrite),
    "empty": _on_bytes(lambda data, rng: b""),
    "random bytes": _on_bytes(lambda data, rng: rng.bytes(int(rng.integers(1, 200)))),
    "swap two files": _swap,
    "a file is missing": _missing,
}
