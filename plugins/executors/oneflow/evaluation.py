"""Evaluation between the steps of training: a graph of its own over the same stages and parameters, forward only."""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.data.batches import HeldOutBatches
from pipeloom.core.planning.held_out import absent_labels
from pipeloom.core.planning.plan import Plan
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.feed import Feed
from pipeloom.plugins.executors.oneflow.graph import PipelineGraph, StepSettings
from pipeloom.plugins.executors.oneflow.stages import Packing, Parameters, Stage

#: What an evaluation hands over the outputs per sample to: the indices of some samples, and their outputs by name.
Take = Callable[[Sequence[int], Dict[str, np.ndarray]], None]


class Evaluator:
    """Losses and metrics of the model over ``plan.evaluation``, each sample exactly once whatever the layout; and its
    outputs per sample.

    A batch is one micro-batch of training on each data-parallel rank, so it needs no more memory at once. ``read``
    makes numpy of a global tensor, on every rank; ``collect`` does so on the main rank and gives ``None`` to the
    others.
    """

    def __init__(
        self,
        plan: Plan,
        axes: Sequence[StageAxes],
        stages: Sequence[Stage],
        held: Sequence[Parameters],
        packings: Sequence[Packing],
        rank: int,
        read: Callable[[flow.Tensor], np.ndarray],
        collect: Callable[[flow.Tensor], Optional[np.ndarray]],
    ) -> None:
        self._plan, self._axes, self._stages, self._held, self._read, self._collect = (
            plan,
            axes,
            stages,
            held,
            read,
            collect,
        )
        absent = absent_labels(plan.model, plan.evaluation)
        self._measures = not absent
        self._batches = HeldOutBatches(
            plan.evaluation, plan.micro_batch_size * plan.mesh.data, plan.model.normalize, list(absent.values())
        )
        self._feed = Feed(self._batches, plan.placement, axes, packings, rank)
        self._graph: Optional[PipelineGraph] = None

    def evaluate(self, take: Optional[Take] = None) -> Dict[str, float]:
        """``{"loss": ..., **losses, **metrics}`` by the parameters as they are now; nothing where the labels for them
        are absent.

        Every rank calls it and has the answer. On the main rank ``take`` gets the outputs ``scored`` of the held-out
        set, batch by batch.
        """
        model = self._plan.model
        sums = np.zeros(len(model.evaluated))
        for number, (outputs, scored) in enumerate(self._batches_through()):
            sums += self._read(outputs)
            values = self._collect(scored) if scored is not None else None
            if values is not None and take is not None:
                take(*self._by_sample(number, values))
        if not self._measures:
            return {}
        measured = dict(zip(model.evaluated, sums.tolist()))
        return {"loss": sum(weight * measured[name] for name, weight in model.losses.items()), **measured}

    def _batches_through(self) -> Iterator[Tuple[flow.Tensor, Optional[flow.Tensor]]]:
        """What the graph returns for each batch; read late: as many are under way as there are stages to work on them."""
        if self._graph is None:  # compiled at the first call, and not by runs that end before
            settings = StepSettings(half_precision=self._plan.config.precision == "amp")
            self._graph = PipelineGraph(
                self._plan.model,
                self._plan.split,
                self._axes,
                self._stages,
                self._held,
                settings,
                scored=self._plan.evaluation.scored,
            )
        running: Deque = deque()
        for number in range(len(self._batches)):
            outputs = self._graph(*self._feed.inputs(number))
            running.append(outputs if self._plan.evaluation.scored else (outputs, None))
            if len(running) > len(self._stages):
                yield running.popleft()
        yield from running

    def _by_sample(self, number: int, packed: np.ndarray) -> Tuple[range, Dict[str, np.ndarray]]:
        """The samples of a batch and their outputs by name, without those that fill it up."""
        indices, start, outputs = self._batches.samples(number), 0, {}
        for name in self._plan.evaluation.scored:
            shape = self._plan.model.scores[name]
            width = int(np.prod(shape))
            outputs[name] = packed[: len(indices), start : start + width].reshape(len(indices), *shape)
            start += width
        return indices, outputs
