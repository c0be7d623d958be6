"""A model on its ranks: stages in one nn.Graph for training, another over the same parameters for evaluation."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import numpy as np

from pipeloom.core.contract import executor
from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.executor import Batches, ProgramSpec, StepSettings
from pipeloom.core.contract.optimizer import OptimizerSpec, StepOptimizer
from pipeloom.plugins.executors.oneflow.engine import import_oneflow

flow = import_oneflow()

from pipeloom.plugins.executors.oneflow.axes import axes_of  # noqa: E402  (after the engine was imported quietly)
from pipeloom.plugins.executors.oneflow.decoding import EagerDecoder  # noqa: E402
from pipeloom.plugins.executors.oneflow.evaluation import GraphEvaluator  # noqa: E402
from pipeloom.plugins.executors.oneflow.feed import Feed  # noqa: E402
from pipeloom.plugins.executors.oneflow.graph import PipelineGraph  # noqa: E402
from pipeloom.plugins.executors.oneflow.recorder import GraphRecorder  # noqa: E402
from pipeloom.plugins.executors.oneflow.stages import build_stages, stage_packings  # noqa: E402
from pipeloom.plugins.executors.oneflow.state import GraphState  # noqa: E402
from pipeloom.plugins.executors.oneflow.updates import Updates  # noqa: E402


class GraphProgram(executor.Program):
    """The stages of a model, their parameters and where they lie; see ``ProgramSpec``."""

    def __init__(self, spec: ProgramSpec, fused: bool = True) -> None:
        cluster = spec.placement.cluster
        self.spec = spec
        self.packings = stage_packings(spec.model, spec.split, spec.fields)
        self.axes = axes_of(spec.placement, spec.mesh.tensor, spec.shard)
        self.stages, self.held = build_stages(
            spec.model, spec.split, self.axes, self.packings, cluster.device_type, spec.value_of, fused
        )
        self._everywhere = flow.placement(cluster.device_type, list(range(cluster.size)))
        # Of copies on several stages the last counts, which is the owner's.
        self._owned = {spec.name: (spec, tensor) for stage in self.held for spec, tensor in stage}
        #: What records the steps of training, if it was asked for.
        self.recorder: Optional[GraphRecorder] = None

    def train(
        self,
        settings: StepSettings,
        optimizer: Union[OptimizerSpec, StepOptimizer],
        schedule: Any,
        batches: Batches,
    ) -> "GraphTraining":
        return GraphTraining(self, settings, optimizer, schedule, batches)

    def evaluator(self, batches: Batches, scored: Sequence[str] = ()) -> GraphEvaluator:
        return GraphEvaluator(self, batches, scored)

    def decoder(self) -> EagerDecoder:
        return EagerDecoder(self)

    @property
    def parameters(self) -> Sequence[ParameterSpec]:
        return [spec for spec, _ in self._owned.values()]

    def weights(self) -> Iterator[Optional[np.ndarray]]:
        for spec, tensor in self._owned.values():
            value = self.read(tensor)  # with what fills it up for tensor parallelism
            yield value[tuple(map(slice, spec.shape))] if self.spec.rank == 0 else None

    def feed(self, batches: Batches) -> Feed:
        """Return what reads this rank's share of ``batches``."""
        return Feed(batches, self.spec.placement, self.axes, self.packings, self.spec.rank)

    def read(self, tensor: Any) -> np.ndarray:
        """Return a global tensor as numpy, on every rank; waits for the devices."""
        return tensor.to_global(placement=self._everywhere, sbp=flow.sbp.broadcast).to_local().numpy()

    def collect(self, tensor: Any) -> Optional[np.ndarray]:
        """Return a global tensor as numpy on the main rank, ``None`` on the others; every rank calls it."""
        main = flow.placement(self._everywhere.type, [0])
        there = tensor.to_global(placement=main, sbp=flow.sbp.broadcast)
        return there.to_local().numpy() if self.spec.rank == 0 else None


class GraphTraining(executor.Training):
    """The graph of a step, what it updates, and what it is fed."""

    def __init__(
        self,
        program: GraphProgram,
        settings: StepSettings,
        optimizer: Union[OptimizerSpec, StepOptimizer],
        schedule: Any,
        batches: Batches,
    ) -> None:
        spec, axes, held = program.spec, program.axes, program.held
        self._program, self._outputs = program, len(spec.model.outputs)
        self._updates = Updates(held, axes, spec.value_of, optimizer, schedule)
        self._graph = PipelineGraph(
            spec.model, spec.split, axes, program.stages, held, settings, spec.half_precision, self._updates
        )
        self._feed = program.feed(batches)
        self.state = GraphState(held, axes, self._updates, self._graph)

    def recorder(self) -> GraphRecorder:
        self._program.recorder = GraphRecorder(self._graph, self._program.spec.placement)
        return self._program.recorder

    def step(self, data_step: int) -> Any:
        if self._program.recorder is not None:
            self._program.recorder.count_step()
        outputs = self._graph(*self._feed.inputs(data_step))
        return outputs, self._graph.norm_record[0].total.clone()

    def read(self, handle: Any) -> Tuple[np.ndarray, float]:
        outputs, norm_sum = handle
        losses = self._program.read(outputs).astype(np.float64).reshape(-1, self._outputs).sum(axis=0)
        return losses, float(self._program.read(norm_sum)[0])

    def finish_step(self, number: int) -> None:
        self._updates.after_step(number)
