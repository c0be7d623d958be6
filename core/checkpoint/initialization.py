"""Initial weights, from a generator that knows nothing about ranks (law 1)."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from pipeloom.core.contract.blocks import ParameterSpec


def initial_value(spec: ParameterSpec, seed: int) -> np.ndarray:
    """Return the initial float32 array of a parameter, which depends on ``(seed, spec.name)`` and on nothing else."""
    if spec.init == "zeros":
        return np.zeros(spec.shape, np.float32)
    if spec.init == "ones":
        return np.ones(spec.shape, np.float32)
    if spec.init != "normal":
        raise ValueError(f"parameter {spec.name}: unknown init '{spec.init}'")
    generator = np.random.Generator(np.random.Philox(key=[seed, crc32(spec.name.encode())]))
    return generator.standard_normal(spec.shape, np.float32) * np.float32(spec.std)
