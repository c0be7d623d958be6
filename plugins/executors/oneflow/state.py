"""What a run must keep to go on: parameters, the optimizer's state, the engine's step counter; to disk and back.

Everything is known by the names of parameters, whole and without what fills it up, whatever ranks hold it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np
import oneflow as flow

from pipeloom.core.contract import executor
from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.loss_scale import LossScale
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.block_scope import filled_up
from pipeloom.plugins.executors.oneflow.graph import PipelineGraph
from pipeloom.plugins.executors.oneflow.stages import Parameters
from pipeloom.plugins.executors.oneflow.updates import Updates

#: The engine's counter of steps, which its learning rate and bias corrections follow.
TRAIN_STEP = "System-Train-TrainStep"
#: What the engine puts behind the name of a variable -> what PyTorch calls that state.
_KINDS = {"m": "exp_avg", "v": "exp_avg_sq", "momentum": "momentum_buffer"}


class GraphState(executor.TrainingState):
    """The live tensors of a run. Every rank makes the same calls in the same order."""

    def __init__(
        self, held: Sequence[Parameters], axes: Sequence[StageAxes], updates: Updates, graph: PipelineGraph
    ) -> None:
        self._held, self._axes, self._updates, self._graph = held, axes, updates, graph
        self._rank = flow.env.get_rank()
        self._everywhere = flow.placement(axes[0].place.type, list(range(flow.env.get_world_size())))
        self._variables: Optional[Dict[int, str]] = None
        self._engine: Dict[str, flow.Tensor] = {}  # what the engine made beside the parameters
        self._loaded: Dict[str, flow.Tensor] = {}  # what it will use for that, until it has
        self._backups: Dict[str, flow.Tensor] = {}
        made = f"System-Train-DynamicLossScale-{graph.name}-"
        self._scale, self._good_steps = made + "LossScale", made + "GoodStepCounter"
        self._counts = (TRAIN_STEP, self._scale, self._good_steps)

    @property
    def optimizer_name(self) -> str:
        return self._updates.optimizer_name

    # -- to disk -------------------------------------------------------------------------------------------

    @property
    def stage_count(self) -> int:
        return len(self._axes)

    def stage_of_writer(self, rank: int) -> Optional[int]:
        """The stage whose arrays ``rank`` gets, if it is the first rank of one."""
        return next((stage for stage, axes in enumerate(self._axes) if axes.ranks[0] == rank), None)

    def tensors(self, to_rank_0: bool = False) -> Iterator[Tuple[str, str, Optional[np.ndarray]]]:
        """``(parameter's name, kind, array)`` of everything to save; the parameters themselves are of kind "".

        The array is ``None`` but on the first rank of the stage that owns the parameter, or (``to_rank_0``) on rank 0.
        One at a time, so that no rank holds more than one tensor beside its own.
        """
        _settle_engine()
        owners = {spec.name: stage for stage, parameters in enumerate(self._held) for spec, _ in parameters}
        own = ((stage, "", spec, tensor) for stage, parameters in enumerate(self._held) for spec, tensor in parameters)
        for source in (own, self._optimizer_state()):
            for stage, kind, spec, tensor in source:
                if owners[spec.name] == stage:  # of copies, the owner's
                    yield spec.name, kind, self._whole(spec, tensor, self._axes[stage], to_rank_0)

    def _whole(
        self, spec: ParameterSpec, tensor: flow.Tensor, axes: StageAxes, to_rank_0: bool
    ) -> Optional[np.ndarray]:
        with flow.no_grad():
            if to_rank_0:
                whole = tensor.to_global(placement=self._everywhere, sbp=flow.sbp.broadcast)
            else:
                whole = (
                    tensor
                    if tensor.sbp == tuple(axes.whole)
                    else tensor.to_global(placement=tensor.placement, sbp=axes.whole)
                )
        if self._rank != (0 if to_rank_0 else axes.ranks[0]):
            return None
        # A copy: on a CPU, numpy() looks at the very memory that the next step changes.
        return np.array(whole.to_local().numpy()[tuple(map(slice, spec.shape))], order="C", copy=True)

    def _optimizer_state(self) -> Iterator[Tuple[int, str, ParameterSpec, flow.Tensor]]:
        """``(stage, kind, spec, tensor)`` of the optimizer's state, kind by kind, the same on every rank."""
        targets = self._updates.targets
        if self._updates.between is not None:
            for kind, tensors in sorted(self._updates.between.state.items()):
                for (stage, spec, _), tensor in zip(targets, tensors):
                    yield stage, kind, spec, tensor
            return
        engine, names = self._engine_state(), self._variable_names()
        suffixes = sorted(
            {
                name[len(names[id(t)]) + 1 :]
                for _, _, t in targets
                for name in engine
                if name.startswith(names[id(t)] + "-")
            }
        )
        for suffix in suffixes:
            for stage, spec, tensor in targets:
                found = engine.get(f"{names[id(tensor)]}-{suffix}")
                if found is not None:
                    yield stage, _KINDS.get(suffix, suffix), spec, found

    def _engine_state(self) -> Dict[str, flow.Tensor]:
        """The tensors that the engine made beside the parameters; before the first step those that were loaded."""
        if not self._engine and self._graph._is_compiled:
            # Constants that the graph uses (tables of positions) are among what it names; they are not state.
            variables = set(self._variable_names().values())
            self._engine = {
                name: tensor
                for name, tensor in self._graph.state_dict().items()
                if name in self._counts or name.rpartition("-")[0] in variables
            }
            self._loaded.clear()
        return self._engine or self._loaded

    def _variable_names(self) -> Dict[int, str]:
        """Id of a parameter -> what the engine calls it."""
        if self._variables is None:
            self._variables = {}
            for block in self._graph._state():
                tensor, entry = block.to(flow.Tensor), block.to(flow.nn.graph.GraphTensor)
                self._variables.setdefault(id(tensor), entry.name_prefix + entry.name)
        return self._variables

    # -- from disk -----------------------------------------------------------------------------------------

    def load_optimizer(
        self, kinds: Sequence[str], step: int, value_of: Callable[[str, ParameterSpec], np.ndarray]
    ) -> None:
        """Go on from an optimizer's state, before the first step. ``value_of(kind, spec)`` is called for own stages
        only.
        """
        targets = self._updates.targets
        if self._updates.between is not None:
            for kind in kinds:
                for (stage, spec, tensor), state in zip(targets, self._updates.between.state[kind]):
                    source = self._spread(spec, stage, tensor, lambda spec, kind=kind: value_of(kind, spec))
                    if self._rank in state.placement.ranks:
                        state.to_local().copy_(source.to_local())
        loaded = {TRAIN_STEP: self._on_rank_0(step, flow.int64)}
        if self._updates.between is None:
            names, suffix_of = self._variable_names(), {kind: suffix for suffix, kind in _KINDS.items()}
            for kind in kinds:
                for stage, spec, tensor in targets:
                    name = f"{names[id(tensor)]}-{suffix_of.get(kind, kind)}"
                    loaded[name] = self._spread(spec, stage, tensor, lambda spec, kind=kind: value_of(kind, spec))
        self._graph.load_state_dict(loaded, strict=False)
        self._loaded.update(loaded)

    def _spread(self, spec: ParameterSpec, stage: int, like: flow.Tensor, value_of) -> flow.Tensor:
        """A tensor with a value from disk, lying as ``like`` does."""
        return filled_up(spec, self._axes[stage], like.sbp, value_of)

    @staticmethod
    def _on_rank_0(value: float, kind: Any) -> flow.Tensor:
        return flow.tensor([value], dtype=kind).to_global(
            placement=flow.placement("cpu", [0]), sbp=[flow.sbp.broadcast]
        )

    def loss_scale(self) -> Optional[LossScale]:
        rule = self._graph.settings.dynamic_scale
        if rule is None:
            return None
        _settle_engine()
        found = self._engine_state()
        if self._scale not in found:
            return rule.first()
        return LossScale(self._number(found[self._scale]), int(self._number(found[self._good_steps])))

    def _number(self, tensor: flow.Tensor) -> float:
        with flow.no_grad():
            everywhere = flow.placement(tensor.placement.type, self._everywhere.ranks)
            return tensor.to_global(placement=everywhere, sbp=flow.sbp.broadcast).to_local().numpy()[0].item()

    def set_loss_scale(self, value: LossScale) -> None:
        self._loaded[self._scale] = self._on_rank_0(value.scale, flow.float32)
        self._loaded[self._good_steps] = self._on_rank_0(value.good_steps, flow.int64)
        self._graph.load_state_dict(self._loaded, strict=False)

    def set_norm_sum(self, value: float) -> None:
        """Set the sum of gradient norms that the graph goes on adding to."""
        with flow.no_grad():
            total = self._graph.norm_record[0].total
            if self._rank in total.placement.ranks:
                total.to_local().fill_(value)

    # -- a step taken back ---------------------------------------------------------------------------------

    def backup(self) -> None:
        """Copy the whole state on the devices: as much memory as it takes itself, and a pass over it."""
        _settle_engine()
        with flow.no_grad():
            for name, tensor in self._live().items():
                if name in self._backups:
                    self._backups[name].copy_(tensor)
                else:
                    self._backups[name] = tensor.clone()

    def restore(self) -> None:
        """Set every tensor to what it was at the last backup, bit for bit."""
        _settle_engine()
        with flow.no_grad():
            for name, tensor in self._live().items():
                if name in self._backups:
                    tensor.copy_(self._backups[name])
                else:
                    # The engine made it in the very step that is taken back: of zeros, but for the loss scale.
                    rule = self._graph.settings.dynamic_scale
                    tensor.fill_(rule.initial if rule is not None and name == self._scale else 0)
        self._updates.drop_gradients()
        _settle_engine()

    def _live(self) -> Dict[str, flow.Tensor]:
        """This rank's own part of every tensor that a step changes."""
        found = {
            f"parameter.{stage}.{spec.name}": tensor
            for stage, parameters in enumerate(self._held)
            for spec, tensor in parameters
        }
        found.update({f"target.{stage}.{spec.name}": tensor for stage, spec, tensor in self._updates.targets})
        if self._updates.between is not None:
            found.update(
                {
                    f"{kind}.{number}": tensor
                    for kind, tensors in self._updates.between.state.items()
                    for number, tensor in enumerate(tensors)
                }
            )
        found.update(self._engine_state())
        found["norm_record"] = self._graph.norm_record[0].total
        return {name: tensor.to_local() for name, tensor in found.items() if self._rank in tensor.placement.ranks}


def _settle_engine() -> None:
    """Wait until the graph has done its step.

    An operation on a parameter waits for that by itself. One on the optimizer's state does not: the engine hands the
    graph the states of modules alone to hold back others from.
    """
    flow._oneflow_internal.eager.Sync()
