"""Optimizers as data, which an engine realises, and optimizers of a plugin's own, which work between the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.blocks import ParameterSpec


@dataclass(frozen=True)
class OptimizerSpec:
    """Describe an optimizer that the engine has, over all parameters as one group.

    ``kind`` and its ``settings``: ``"adamw"`` with ``beta1``, ``beta2``, ``eps`` (decoupled weight decay, bias
    correction, Loshchilov & Hutter 2019), ``"sgd"`` with ``momentum``. ``weight_decay`` leaves out the parameters whose
    ``decay`` is false. The learning rate of a step is the schedule's.
    """

    kind: str
    weight_decay: float = 0.0
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Part:
    """This rank's part of one parameter between two steps.

    ``weight``, ``gradient`` (clipped, over the whole global batch) and each of ``state`` are arrays of the engine, of
    one shape; they have ``+ - * /`` with each other and with numbers.
    """

    spec: ParameterSpec
    weight: Any
    gradient: Any
    state: Dict[str, Any]


class Arrays:
    """What a ``StepOptimizer`` does with arrays beside ``+ - * /``."""

    def assign(self, target: Any, value: Any) -> None:
        """Set ``target`` (a weight or a state) to ``value``, in place."""
        raise NotImplementedError("abstract")

    def sqrt(self, x: Any) -> Any:
        raise NotImplementedError("abstract")

    def sign(self, x: Any) -> Any:
        raise NotImplementedError("abstract")

    def square_sum(self, x: Any) -> Any:
        """Return the sum of the squares of this part, a scalar array for ``whole_sums``."""
        raise NotImplementedError("abstract")

    def whole_sums(self, values: Sequence[Optional[Sequence[Any]]], count: int) -> np.ndarray:
        """Add up scalars of parts to those of whole parameters: float64 ``(parameters, count)``.

        ``values[i]`` are ``count`` scalar arrays of this rank's part of parameter i, ``None`` where it has none. Every
        rank calls it; each part counts once, however many ranks hold it.
        """
        raise NotImplementedError("abstract")


class StepOptimizer:
    """An optimizer of a plugin's own, which works between the steps on each rank's own parts.

    For a norm over a whole parameter whose parts lie on several ranks, or any formula that no engine has. What it
    costs: gradients are kept as tensors of their own, and the update overlaps with nothing. What an update needs of
    earlier ones belongs into states, which begin as zeros, are saved in checkpoints and come back from them.
    """

    #: The kinds of state that each parameter has (``"exp_avg"``).
    states: Tuple[str, ...] = ()

    def update(self, parts: List[Optional[Part]], number: int, rate: float, arrays: Arrays) -> None:
        """Change the weights and states of ``parts`` in place by step ``number`` (from 1) at learning rate ``rate``.

        ``parts[i]`` is ``None`` where this rank has no part of parameter i; every rank gets the parameters in the same
        order.
        """
        raise NotImplementedError("abstract")
