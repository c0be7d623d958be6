"""Initial weights and dropout seeds, from generators that know nothing about ranks (law 1)."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from pipeloom.core.contract.blocks import ParameterSpec

#: Streams of the counter-based generator are told apart by the second word of its key.
_DROPOUT_STREAM = 0xD509


def initial_value(spec: ParameterSpec, seed: int) -> np.ndarray:
    """The initial float32 array of a parameter: depends on ``(seed, spec.name)`` and on nothing else."""
    if spec.init == "zeros":
        return np.zeros(spec.shape, np.float32)
    if spec.init == "ones":
        return np.ones(spec.shape, np.float32)
    if spec.init != "normal":
        raise ValueError(f"parameter {spec.name}: unknown init '{spec.init}'")
    generator = np.random.Generator(np.random.Philox(key=[seed, crc32(spec.name.encode())]))
    return generator.standard_normal(spec.shape, np.float32) * np.float32(spec.std)


def dropout_seeds(seed: int, step: int, global_batch_size: int) -> np.ndarray:
    """``int32 (global_batch_size, 2)``: what keys the dropout masks of each sample of a step.

    Depends on the sample's position in the global batch, not on the rank or micro-batch it falls to.
    """
    bits = np.random.Philox(key=[seed, _DROPOUT_STREAM], counter=[0, 0, 0, step])
    generator = np.random.Generator(bits)
    return generator.integers(-(2**31), 2**31, size=(global_batch_size, 2), dtype=np.int64).astype(np.int32)
