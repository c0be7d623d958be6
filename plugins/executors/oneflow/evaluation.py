"""Evaluation between the steps of training: a graph of its own over the same stages and parameters, forward only."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Deque, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.contract import executor
from pipeloom.core.contract.executor import Batches, ReceiveOutputs, StepSettings
from pipeloom.plugins.executors.oneflow.graph import PipelineGraph

if TYPE_CHECKING:
    from pipeloom.plugins.executors.oneflow.program import GraphProgram


class GraphEvaluator(executor.Evaluator):
    """Measure losses and metrics over held-out batches, each sample once whatever the layout, and outputs per sample.

    A batch is one micro-batch of training on each data-parallel rank, so it needs no more memory at once.
    """

    def __init__(self, program: GraphProgram, batches: Batches, scored: Sequence[str]) -> None:
        self._program, self._batches, self._scored = program, batches, tuple(scored)
        self._feed = program.feed(batches)
        self._graph: Optional[PipelineGraph] = None

    def evaluate(self, receive: Optional[ReceiveOutputs] = None) -> Dict[str, float]:
        recorder = self._program.recorder
        with nullcontext() if recorder is None else recorder.paused():
            return self._evaluate(receive)

    def _evaluate(self, receive: Optional[ReceiveOutputs]) -> Dict[str, float]:
        model = self._program.spec.model
        sums = np.zeros(len(model.evaluated))
        for number, (outputs, scored) in enumerate(self._batches_through()):
            sums += self._program.read(outputs)
            values = self._program.collect(scored) if scored is not None else None
            if values is not None and receive is not None:
                receive(*self._by_sample(number, values))
        if self._batches.absent:
            return {}
        measured = dict(zip(model.evaluated, sums.tolist()))
        return {"loss": sum(weight * measured[name] for name, weight in model.losses.items()), **measured}

    def _batches_through(self) -> Iterator[Tuple[flow.Tensor, Optional[flow.Tensor]]]:
        """Yield what the graph returns for each batch; late: as many are under way as stages can work on."""
        if self._graph is None:  # compiled at the first call, and not by runs that end before
            spec, program = self._program.spec, self._program
            self._graph = PipelineGraph(
                spec.model,
                spec.split,
                program.axes,
                program.stages,
                program.held,
                StepSettings(),
                spec.half_precision,
                scored=self._scored,
            )
        running: Deque = deque()
        for number in range(len(self._batches)):
            outputs = self._graph(*self._feed.inputs(number))
            running.append(outputs if self._scored else (outputs, None))
            if len(running) > len(self._program.stages):
                yield running.popleft()
        yield from running

    def _by_sample(self, number: int, packed: np.ndarray) -> Tuple[range, Dict[str, np.ndarray]]:
        """Return the samples of a batch and their outputs by name, without those that fill it up."""
        indices, start, outputs = self._batches.samples(number), 0, {}
        for name in self._scored:
            shape = self._program.spec.model.scores[name]
            width = int(np.prod(shape))
            outputs[name] = packed[: len(indices), start : start + width].reshape(len(indices), *shape)
            start += width
        return indices, outputs
