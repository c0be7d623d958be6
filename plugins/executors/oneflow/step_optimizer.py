"""Optimizers that work between the steps of the graph, in eager operations on each rank's own parts.

For what the engine's optimizers cannot do: a norm over a whole parameter whose parts lie on several ranks, or any
formula that is not built in. What it costs: the gradients are kept as parameters of their own
(``plugins/executors/oneflow/updates.py``), and the update overlaps with nothing.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.plugins.executors.oneflow.axes import split_dim


class StepOptimizer:
    """``pipeloom_build_optimizer`` may return one. Subclasses implement ``update``.

    ``parameters``: ``(spec, tensor)`` of all stages, as the hook gets them. Every rank makes the same calls.
    What an update needs of earlier ones belongs into ``state``: it is saved in checkpoints and comes back from them.
    """

    def __init__(self, parameters: Sequence[Tuple[ParameterSpec, flow.Tensor]]) -> None:
        self.parameters = list(parameters)
        rank = flow.env.get_rank()
        #: Which of them this rank has a part of.
        self.mine = [rank in tensor.placement.ranks for _, tensor in self.parameters]
        #: Kind of state -> for each parameter a tensor that lies as it does (``self.zeros()``); changed in place.
        self.state: Dict[str, List[flow.Tensor]] = {}

    def zeros(self) -> List[flow.Tensor]:
        """For each parameter zeros that lie as it does."""
        return [flow.zeros(*tensor.shape, placement=tensor.placement, sbp=tensor.sbp) for _, tensor in self.parameters]

    def step(self, records: Sequence[flow.Tensor], number: int, rate: float) -> None:
        """Update by ``records``, each minus the gradient of a parameter and lying like it; ``number`` counts from 1."""
        with flow.no_grad():
            self.update(
                [self.part(tensor) * -1.0 if mine else None for tensor, mine in zip(records, self.mine)], number, rate
            )

    def update(self, gradients: List[flow.Tensor], number: int, rate: float) -> None:
        """Change this rank's parts (``self.part(tensor)``, in place); ``gradients[i]`` is ``None`` where it has none."""
        raise NotImplementedError("abstract")

    @staticmethod
    def part(tensor: flow.Tensor):
        """This rank's own part, in place, or ``None``."""
        return tensor.to_local() if flow.env.get_rank() in tensor.placement.ranks else None

    def sums_over_parts(self, values: Sequence[Sequence[flow.Tensor]]) -> np.ndarray:
        """Numbers of the whole parameters from those of their parts: float64 ``(parameters, k)``.

        ``values[i]`` are k scalars of this rank's part of parameter i (anything where it has none). Each part counts
        once, however many ranks hold it.
        """
        count = len(values[0])
        result = np.zeros((len(values), count))
        for place, indices in self._by_stage().items():
            sample = self.parameters[indices[0]][1]
            ranks = sample.placement.ranks
            mine = (
                flow.cat([flow.cat([value.reshape(1) for value in values[i]]) for i in indices]).reshape(1, -1)
                if self.mine[indices[0]]
                else flow.zeros(1, count * len(indices))
            )
            mine = mine if sample.placement.type == "cpu" else mine.to(sample.placement.type)
            rows = mine.to_global(placement=sample.placement, sbp=[flow.sbp.split(0)] * ranks.ndim, check_meta=False)
            rows = rows.to_global(placement=sample.placement, sbp=[flow.sbp.broadcast] * ranks.ndim)
            if not self.mine[indices[0]]:
                continue
            table = rows.to_local().numpy().astype(np.float64).reshape(*ranks.shape, len(indices), count)
            for position, i in enumerate(indices):
                sbp = self.parameters[i][1].sbp
                # Along an axis of ranks that all hold the same, the first speaks for the others.
                chosen = tuple(slice(None) if split_dim(part) is not None else slice(0, 1) for part in sbp)
                result[i] = table[chosen][..., position, :].reshape(-1, count).sum(axis=0)
        return result

    def _by_stage(self) -> Dict[str, List[int]]:
        groups: Dict[str, List[int]] = {}
        for index, (_, tensor) in enumerate(self.parameters):
            groups.setdefault(str(tensor.placement), []).append(index)
        return groups
