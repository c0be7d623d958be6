"""Initial weights, from a generator that knows nothing about ranks (law 1), or from those that a model starts from."""

from __future__ import annotations

from typing import Callable, List, Mapping
from zlib import crc32

import numpy as np

from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec
from pipeloom.core.contract.distributions import DISTRIBUTIONS, Distribution


def initial_value(
    spec: ParameterSpec, seed: int, distributions: Mapping[str, Distribution] = DISTRIBUTIONS
) -> np.ndarray:
    """Return the initial float32 array of a parameter, which depends on ``(seed, spec.name)`` and on nothing else."""
    if spec.init not in distributions:
        raise ValueError(f"parameter {spec.name}: unknown init '{spec.init}'")
    generator = np.random.Generator(np.random.Philox(key=[seed, crc32(spec.name.encode())]))
    return distributions[spec.init](generator, spec)


def initial_values(
    model: ModelSpec, seed: int, distributions: Mapping[str, Distribution] = DISTRIBUTIONS
) -> Callable[[ParameterSpec], np.ndarray]:
    """Return what makes the float32 value of a parameter at the start: from the model's weights, else by ``seed``."""

    def value_of(spec: ParameterSpec) -> np.ndarray:
        value = model.weights.value(spec) if model.weights is not None else None
        return initial_value(spec, seed, distributions) if value is None else value

    return value_of


def starting_point(model: ModelSpec) -> List[str]:
    """Return what the log says about the initial values of ``model``; nothing where all come from the seed."""
    return [] if model.weights is None else model.weights.report()
