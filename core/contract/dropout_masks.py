"""Dropout masks without a state, keyed by (seed, step, sample, place in the model) and by nothing else.

Whatever the layout and the engine, a value is dropped or not. Each sample brings two int32 (``DROPOUT_SEEDS``: Philox
of seed and step), which are mixed with a constant of the place and a table over positions. The mix is two rounds of
``h (2h + 1)`` mod 2**32, the permutation of RC6 (Rivest et al. 1998); its high bits, which decide, depend on all bits
of the input. Not cryptographic.
"""

from __future__ import annotations

from typing import Any, Tuple
from zlib import crc32

import numpy as np


def place_constants(name: str) -> Tuple[int, int]:
    """Return two numbers in the range of int32 from the name of a place in the model."""
    return crc32(name.encode()) - 2**31, crc32(f"{name}/2".encode()) - 2**31


def position_table(size: int) -> np.ndarray:
    """Return int32 ``(1, size)``: one random number per position, the same in every layer, rank and run."""
    generator = np.random.Generator(np.random.Philox(key=[0x7AB1E, size]))
    return generator.integers(-(2**31), 2**31, size=(1, size), dtype=np.int64).astype(np.int32)


def mix(h: Any) -> Any:
    """Return int32 mixed by one round, modulo 2**32."""
    return h * (h * 2 + 1)


def threshold(p: float) -> int:
    """Return the int32 from which on mixed numbers are kept."""
    return int(-(2**31) + p * 2**32)


def kept_mask(name: str, p: float, seeds: np.ndarray, size: int) -> np.ndarray:
    """Return bool ``(B, size)``, true where a value is kept; ``seeds`` are int32 ``(B, 2)``."""
    first, second = place_constants(name)
    with np.errstate(over="ignore"):
        seeds = seeds.astype(np.int32)
        key = mix(seeds[:, :1] + np.int32(first)) - seeds[:, 1:]
        h = mix(mix(key - position_table(size)) + np.int32(second))
    return h >= threshold(p)
