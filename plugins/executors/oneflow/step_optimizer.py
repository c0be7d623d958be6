"""The steps of an optimizer that works between those of the graph, in eager operations on each rank's own parts.

What it costs: the gradients are kept as parameters of their own (``plugins/executors/oneflow/updates.py``), and the
update overlaps with nothing.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.optimizer import Arrays, Part, StepOptimizer
from pipeloom.plugins.executors.oneflow.axes import split_dim


class BetweenSteps(Arrays):
    """Let ``optimizer`` update ``parameters``, ``(spec, tensor)`` of all stages; every rank makes the same calls."""

    def __init__(self, optimizer: StepOptimizer, parameters: Sequence[Tuple[ParameterSpec, flow.Tensor]]) -> None:
        self._optimizer, self._parameters = optimizer, list(parameters)
        rank = flow.env.get_rank()
        #: Which of them this rank has a part of.
        self._mine = [rank in tensor.placement.ranks for _, tensor in self._parameters]
        #: Kind of state -> for each parameter a tensor that is spread as it is; changed in place.
        self.state: Dict[str, List[flow.Tensor]] = {kind: self._zeros() for kind in optimizer.states}

    def _zeros(self) -> List[flow.Tensor]:
        return [flow.zeros(*tensor.shape, placement=tensor.placement, sbp=tensor.sbp) for _, tensor in self._parameters]

    def step(self, records: Sequence[flow.Tensor], number: int, rate: float) -> None:
        """Update by ``records``, each minus the gradient of a parameter and spread like it; ``number`` is from 1."""
        with flow.no_grad():
            parts = [
                Part(
                    spec,
                    tensor.to_local(),
                    record.to_local() * -1.0,
                    {kind: tensors[index].to_local() for kind, tensors in self.state.items()},
                )
                if self._mine[index]
                else None
                for index, ((spec, tensor), record) in enumerate(zip(self._parameters, records))
            ]
            self._optimizer.update(parts, number, rate, self)

    def assign(self, target: Any, value: Any) -> None:
        target.copy_(value)

    def sqrt(self, x: Any) -> Any:
        return flow.sqrt(x)

    def sign(self, x: Any) -> Any:
        return flow.sign(x)

    def square_sum(self, x: Any) -> Any:
        # Row by row first: a naive sum over millions of numbers loses digits.
        square = x * x
        return (square.sum(dim=-1) if len(square.shape) > 1 else square).sum()

    def whole_sums(self, values: Sequence[Optional[Sequence[Any]]], count: int) -> np.ndarray:
        result = np.zeros((len(values), count))
        for indices in self._by_stage().values():
            sample = self._parameters[indices[0]][1]
            ranks = sample.placement.ranks
            mine = (
                flow.cat([flow.cat([value.reshape(1) for value in values[i] or ()]) for i in indices]).reshape(1, -1)
                if self._mine[indices[0]]
                else flow.zeros(1, count * len(indices))
            )
            mine = mine if sample.placement.type == "cpu" else mine.to(sample.placement.type)
            rows = mine.to_global(placement=sample.placement, sbp=[flow.sbp.split(0)] * ranks.ndim, check_meta=False)
            rows = rows.to_global(placement=sample.placement, sbp=[flow.sbp.broadcast] * ranks.ndim)
            if not self._mine[indices[0]]:
                continue
            table = rows.to_local().numpy().astype(np.float64).reshape(*ranks.shape, len(indices), count)
            for position, i in enumerate(indices):
                sbp = self._parameters[i][1].sbp
                # Along an axis of ranks that all hold the same, the first speaks for the others.
                chosen = tuple(slice(None) if split_dim(part) is not None else slice(0, 1) for part in sbp)
                result[i] = table[chosen][..., position, :].reshape(-1, count).sum(axis=0)
        return result

    def _by_stage(self) -> Dict[str, List[int]]:
        groups: Dict[str, List[int]] = {}
        for index, (_, tensor) in enumerate(self._parameters):
            groups.setdefault(str(tensor.placement), []).append(index)
        return groups
