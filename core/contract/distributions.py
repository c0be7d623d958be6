"""Distributions that initial values are drawn from, by the names that ``ParameterSpec.init`` has for them."""

from __future__ import annotations

from typing import Callable, Dict

import numpy as np

from pipeloom.core.contract.blocks import ParameterSpec

#: Makes the float32 value of ``spec.shape`` of a parameter; ``generator`` is this parameter's own.
Distribution = Callable[[np.random.Generator, ParameterSpec], np.ndarray]


def _normal(generator: np.random.Generator, spec: ParameterSpec) -> np.ndarray:
    return generator.standard_normal(spec.shape, np.float32) * np.float32(spec.std)


#: Distributions that are always there; a plugin adds others by the hook ``pipeloom_initial_distributions``.
DISTRIBUTIONS: Dict[str, Distribution] = {
    "normal": _normal,
    "zeros": lambda generator, spec: np.zeros(spec.shape, np.float32),
    "ones": lambda generator, spec: np.ones(spec.shape, np.float32),
}
