"""Evaluation between the steps of training: a graph of its own over the same stages and parameters, forward only."""
from __future__ import annotations

from collections import deque
from typing import Callable, Dict, Optional, Sequence

import numpy as np
import oneflow as flow

from pipeloom.core.data.batches import HeldOutBatches
from pipeloom.core.executor.axes import StageAxes
from pipeloom.core.executor.feed import Feed
from pipeloom.core.executor.graph import PipelineGraph, StepSettings
from pipeloom.core.executor.stages import Packing, Parameters, Stage
from pipeloom.core.plan import Plan


class Evaluator:
    """Losses and metrics of the model over ``plan.evaluation``, each sample exactly once whatever the layout.

    A batch is one micro-batch of training on each data-parallel rank, so it needs no more memory at once. ``read`` makes
    numpy of a global tensor, on every rank.
    """

    def __init__(self, plan: Plan, axes: Sequence[StageAxes], stages: Sequence[Stage], held: Sequence[Parameters],
                 packings: Sequence[Packing], rank: int, read: Callable[[flow.Tensor], np.ndarray]) -> None:
        self._plan, self._axes, self._stages, self._held, self._read = plan, axes, stages, held, read
        self._batches = HeldOutBatches(plan.evaluation, plan.micro_batch_size * plan.mesh.data, plan.model.normalize)
        self._feed = Feed(self._batches, plan.placement, axes, packings, rank)
        self._graph: Optional[PipelineGraph] = None

    def evaluate(self) -> Dict[str, float]:
        """``{"loss": ..., **losses, **metrics}`` by the parameters as they are now; every rank calls it and has the answer."""
        model = self._plan.model
        if self._graph is None:    # compiled at the first call, and not by runs that end before
            settings = StepSettings(half_precision=self._plan.config.precision == "amp")
            self._graph = PipelineGraph(model, self._plan.split, self._axes, self._stages, self._held, settings)
        sums, running = np.zeros(len(model.evaluated)), deque()
        for number in range(len(self._batches)):
            running.append(self._graph(*self._feed.inputs(number)))
            # Read late: as many batches are under way as there are stages to work on them.
            if len(running) > len(self._stages):
                sums += self._read(running.popleft())
        for outputs in running:
            sums += self._read(outputs)
        values = dict(zip(model.evaluated, sums.tolist()))
        return {"loss": sum(weight * values[name] for name, weight in model.losses.items()), **values}
