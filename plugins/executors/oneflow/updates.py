"""What the optimizer updates, where that is not the parameters themselves.

``--shard optimizer`` (ZeRO stage 1, Rajbhandari et al. 2020): beside the parameters, which every data-parallel
rank has whole, each has a *master* of its own part; the optimizer and its state know the masters alone, and after a
step the parts are gathered into the parameters. The engine's own (``enable_zero``) aborts on a CPU.

An optimizer that works between the steps of the graph (``StepOptimizer``) reads its gradients from *records*:
parameters that the graph sets to minus the gradient, by SGD at rate 1, since a graph returns nothing once per step.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Union

import numpy as np
import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.optimizer import OptimizerSpec, StepOptimizer
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.block_scope import make_parameter
from pipeloom.plugins.executors.oneflow.optimization import NAMES, between_steps, engine_optimizer, engine_schedule
from pipeloom.plugins.executors.oneflow.stages import Parameters
from pipeloom.plugins.executors.oneflow.step_optimizer import BetweenSteps


class Mirror(flow.nn.Module):
    """A parameter for each of a stage's, lying where the update needs it; ``value_of(spec)`` is its first value."""

    def __init__(
        self, parameters: Parameters, axes: StageAxes, value_of: Callable[[ParameterSpec], np.ndarray]
    ) -> None:
        super().__init__()
        self.parameters_with_specs: Parameters = []
        for number, (spec, _) in enumerate(parameters):
            tensor = make_parameter(spec, axes, axes.update(spec), value_of)
            setattr(self, f"of_{number}", tensor)  # not a ParameterList: nn.Graph cannot compute with the items of one
            self.parameters_with_specs.append((spec, tensor))
        self.count = len(parameters)

    def forward(self):
        """Read each of them: the engine does not know a parameter that is only given a gradient."""
        for number in range(self.count):
            getattr(self, f"of_{number}")


class Updates:
    """Update the parameters: in the graph, through masters, or between its steps.

    Hand ``optimizer``, ``scheduler`` and ``mirrors`` to the graph, and call ``after_step`` after each of its steps.
    """

    def __init__(
        self,
        held: Sequence[Parameters],
        axes: Sequence[StageAxes],
        value_of: Callable[[ParameterSpec], np.ndarray],
        optimizer: Union[OptimizerSpec, StepOptimizer],
        schedule: Any,
    ) -> None:
        self._held, self._schedule, self._rank = held, schedule, flow.env.get_rank()
        self.mirrors = [
            Mirror(parameters, here, value_of) for parameters, here in zip(held, axes) if here.shard == "optimizer"
        ]
        self._masters = [mirror.parameters_with_specs for mirror in self.mirrors]
        #: What the optimizer updates: ``(stage, spec, tensor)``.
        self.targets = [
            (stage, spec, tensor)
            for stage, parameters in enumerate(self._masters or held)
            for spec, tensor in parameters
        ]
        parameters = [(spec, tensor) for _, spec, tensor in self.targets]
        #: The optimizer, if it works between the steps.
        self.between: Optional[BetweenSteps] = None
        self._records: Sequence[flow.Tensor] = ()
        self.optimizer_name = (
            NAMES[optimizer.kind] if isinstance(optimizer, OptimizerSpec) else type(optimizer).__name__
        )
        stepping = between_steps(optimizer, schedule)
        if stepping is not None:
            self.between, self.scheduler = BetweenSteps(stepping, parameters), None
            self.mirrors = [Mirror(parameters, here, _zeros) for parameters, here in zip(held, axes)]
            self._records = [tensor for _, tensor in _flat([mirror.parameters_with_specs for mirror in self.mirrors])]
            # It makes of records that are zero minus the gradients.
            self.optimizer = flow.optim.SGD(self._records, lr=1.0)
        elif isinstance(optimizer, OptimizerSpec):
            self.optimizer = engine_optimizer(optimizer, parameters, schedule.rate)
            self.scheduler = engine_schedule(schedule, self.optimizer)

    def after_step(self, number: int) -> None:
        """Do what is left when the graph has done step ``number`` (from 1); every rank calls it."""
        if self.between is not None:
            self.between.step(self._records, number, self._schedule.at(number - 1))
            self.drop_gradients()
        if self._masters:
            self._gather()

    def drop_gradients(self) -> None:
        """Forget what the graph recorded for an optimizer between its steps."""
        with flow.no_grad():
            for record in self._records:
                record.zero_()

    def _gather(self) -> None:
        with flow.no_grad():
            for (_, parameter), (_, part) in zip(_flat(self._held), _flat(self._masters)):
                whole = (
                    part
                    if part.sbp == parameter.sbp
                    else part.to_global(placement=parameter.placement, sbp=parameter.sbp)
                )
                if self._rank in parameter.placement.ranks:
                    parameter.to_local().copy_(whole.to_local())


def _zeros(spec: ParameterSpec) -> np.ndarray:
    return np.zeros(spec.shape, np.float32)


def _flat(stages: Sequence[Parameters]) -> Parameters:
    return [pair for parameters in stages for pair in parameters]
