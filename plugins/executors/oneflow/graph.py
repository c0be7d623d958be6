"""The graph of a step: stages in a pipeline, micro-batches by gradient accumulation; or of an evaluation."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import oneflow as flow
from oneflow.nn.graph import GraphModule

from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.executor import StepSettings
from pipeloom.plugins.executors.oneflow.axes import StageAxes
from pipeloom.plugins.executors.oneflow.clipping import (
    NormRecord,
    clip_factor,
    global_norm,
    in_float32,
    scale_gradients,
)
from pipeloom.plugins.executors.oneflow.constants import shared_constants
from pipeloom.plugins.executors.oneflow.hops import carry
from pipeloom.plugins.executors.oneflow.lending import OwnGradient, Waiting, give_registers
from pipeloom.plugins.executors.oneflow.optimization import grad_scaler
from pipeloom.plugins.executors.oneflow.passes import TracedPasses
from pipeloom.plugins.executors.oneflow.sharing import copies_of, find_copies, share_copies
from pipeloom.plugins.executors.oneflow.stages import Parameters, Stage, find_borrowed
from pipeloom.plugins.executors.oneflow.update_scaling import scale_in_updates
from pipeloom.plugins.executors.oneflow.updates import Updates


class PipelineGraph(flow.nn.Graph):
    """One step of ``model`` over ``stages``.

    Called with ``ints_0, floats_0, ints_1, floats_1, ...``: for each stage its packed fields as global tensors split on
    dim 0. Returns ``(micro-batches * outputs,)``: the model's outputs, summed over the data-parallel ranks, for each
    micro-batch. Without ``updates`` it evaluates: the blocks are in evaluation mode, and what they return has the
    model's metrics in it; and with ``scored`` it returns a second tensor, those outputs per sample side by side,
    ``(batch, widths)``.
    """

    def __init__(
        self,
        model: ModelSpec,
        split: Sequence[int],
        axes: Sequence[StageAxes],
        stages: Sequence[Stage],
        parameters: Sequence[Parameters],
        settings: StepSettings,
        half_precision: bool = False,
        updates: Optional[Updates] = None,
        scored: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.settings, self.passes = settings, TracedPasses()
        self.model_outputs = model.outputs if updates is not None else model.evaluated
        self.scored = tuple(scored)
        self.loss_weights = dict(model.losses)
        self.axes = list(axes)
        self.stages = flow.nn.ModuleList(list(stages))
        self.plain_stages = list(stages)  # in a list: not wrapped for tracing
        for number, here in enumerate(self.axes):
            self.stages[number].to(GraphModule).set_stage(number, here.place)
        for number, positions in enumerate(settings.recomputed):
            self.plain_stages[number].recomputed = tuple(positions)
            for position in positions:
                self.stages[number].blocks[position].to(GraphModule).activation_checkpointing = True
        # Such a part is not given its stage's id: it would be that of the first variable that the graph reads, and the
        # engine would then take the first stage for the last. It finds the id by the placement (docs/oneflow-notes.md).
        self.borrowed = find_borrowed(model, split)
        self.lent: Dict[int, OwnGradient] = {}  # in a dict: a module set on a graph is wrapped for tracing
        if updates is not None and settings.micro_batches > 1:
            self._look_up_ahead()
        self.half_precision = half_precision
        if half_precision:  # the engine chooses what it computes in float16
            self.config.enable_amp(True)
        self.held = list(parameters)
        self.copies = find_copies(parameters)
        self.config.set_gradient_accumulation_steps(settings.micro_batches)
        if updates is not None:
            self.config.allow_fuse_model_update_ops(True)  # the division by the number of micro-batches
            self.config.allow_fuse_add_to_output(True)  # a product adds to what it would be added to
            self._set_updates(updates)
        self.debug(-1, max_py_stack_depth=0)  # names of operations without the lines of Python that made them

    def _set_updates(self, updates: Updates) -> None:
        mirrors = updates.mirrors
        self.mirrors = flow.nn.ModuleList(mirrors)
        self.mirrored = [mirror.parameters_with_specs for mirror in mirrors]
        for number, here in enumerate(self.axes[: len(mirrors)]):
            self.mirrors[number].to(GraphModule).set_stage(number, here.place)
        self.add_optimizer(updates.optimizer, lr_sch=updates.scheduler)
        if self.settings.dynamic_scale is not None:
            self.set_grad_scaler(grad_scaler(self.settings.dynamic_scale))
        record = NormRecord(self.axes[-1])
        self.norm_zero = record
        self.norm_zero.to(GraphModule).set_stage(len(self.axes) - 1, self.axes[-1].place)
        self.norm_record = [record]  # in a list: a module set on a graph is wrapped for tracing
        self.add_optimizer(record.optimizer())

    def _look_up_ahead(self) -> None:
        """Keep what is looked up for another stage out of the way of the pipeline (``lending.py``)."""
        for number, (stage, position, part, _) in self.borrowed.items():
            if stage != number:
                (parameter,) = getattr(self.plain_stages[stage].blocks[position], f"part_{part}").parameters()
                self.lent[number] = OwnGradient(parameter, self.axes[stage])
        self.own_gradients, self.waiting = flow.nn.ModuleList(self.lent.values()), Waiting()

    def finish_complie_and_init_runtime(self) -> None:  # so spelled; the engine calls it between tracing and compiling
        job: Any = getattr(self, "_full_graph_proto")  # noqa: B009  (the engine's: no type is known)
        if self.config.training:
            scale_in_updates(job)
        if self.lent:
            # The micro-batches that the engine's buffers let into the pipeline, and those on their way to its
            # beginning.
            give_registers(job, "waiting", 2 * len(self.axes) + 2)
        self._full_graph_proto = job
        super().finish_complie_and_init_runtime()

    @property
    def compiled_job(self) -> Any:
        """The engine's ``Job`` as it runs; once the graph has been called."""
        return self._compiled_graph_proto

    def build(self, *inputs):
        # Here and not before: another graph over the same modules may be traced at any time before this one.
        for stage in self.plain_stages:
            stage.train(self.config.training)
            stage.score(self.scored)
        hidden: Any = None
        fed = list(inputs)
        for number, here in enumerate(self.axes):
            if number in self.borrowed:
                hidden = carry(self._borrow(number, fed), self.axes[self.borrowed[number][0]], here)
            elif hidden is not None:
                hidden = carry(hidden, self.axes[number - 1], here)
            hidden = self.stages[number](hidden, fed[2 * number], fed[2 * number + 1])
        outputs = flow.stack([hidden[name].reshape(()) for name in self.model_outputs])
        if self.config.training:
            self._train(sum(weight * hidden[name].reshape(()) for name, weight in self.loss_weights.items()))
        last = self.axes[-1]
        outputs = outputs.to_global(placement=last.place, sbp=last.whole)
        if not self.scored:
            return outputs
        values = [hidden[name] for name in self.scored]
        return outputs, flow.cat([value.reshape(value.shape[0], -1) for value in values], dim=1).to_global(
            placement=last.place, sbp=last.whole
        )

    def _train(self, loss: flow.Tensor) -> None:
        settings, record = self.settings, self.norm_record[0]
        micro_batches, loss_scale, max_norm = settings.micro_batches, settings.loss_scale, settings.max_norm
        dynamic = settings.dynamic_scale is not None
        # The engine divides gradients by the number of micro-batches; our losses are sums over the
        # global batch, so the factor is put back.
        with shared_constants():
            scaled = loss * (micro_batches * loss_scale) + self.norm_zero(dynamic)
            with self.passes.backward():
                scaled.backward()
        for use in self.lent.values():
            use.add()
        # Here gradients are still sums over the micro-batches of a loss that is too large by their number.
        share_copies(self.copies, self.axes)
        if self.half_precision:
            in_float32([*self.held, *([] if not dynamic else [[(None, record.total)]])])
        norm = global_norm(self.held, self.axes, copies_of(self.copies)) * (1.0 / loss_scale)
        # The engine scales by its own number, which is not known here but by what it does to a gradient that would be
        # the number of micro-batches; and divides by it in the update.
        true_norm = norm * micro_batches / record.gradient() if dynamic else norm
        record.record(norm)
        if max_norm > 0:
            factor = clip_factor(true_norm * (1.0 / micro_batches), max_norm)
            scale_gradients(self.held, self.axes, factor * (1.0 / loss_scale))
        elif loss_scale != 1.0:
            scale_gradients(self.held, self.axes, 1.0 / loss_scale)
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the gradients to what the optimizer updates in the place of the parameters."""
        for mirror, parameters, mirrored in zip(self.mirrors, self.held, self.mirrored):
            mirror()
            for (_, parameter), (_, other) in zip(parameters, mirrored):
                other.grad, parameter.grad = parameter.grad, None

    def _borrow(self, number: int, inputs: List[flow.Tensor]) -> flow.Tensor:
        """Compute what stage ``number`` borrows; in ``inputs`` those of the owner's stage may be replaced."""
        stage, position, part, field = self.borrowed[number]
        part = getattr(self.stages[stage].blocks[position], f"part_{part}")
        packing = self.stages[stage].packing
        start, width = next((start, width) for known, start, width in packing.columns("int32") if known.name == field)
        if number not in self.lent:
            return part(flow.narrow(inputs[2 * stage], 1, start, width))
        # Twice: the stage itself comes to these inputs much later, and the backward pass to the field later still.
        inputs[2 * stage] = self.waiting(inputs[2 * stage])
        value = self.waiting(flow.narrow(inputs[2 * stage], 1, start, width))
        return part(value, self.own_gradients[list(self.lent).index(number)])
