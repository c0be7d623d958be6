"""Clipping by the global norm, inside the graph, over all stages and parameter groups.

OneFlow's own clips each parameter group by itself and sums squares naively in float32, stage by stage, so
the norm of a large embedding is off by 4e-4 and depends on the layout (docs/oneflow-notes.md). Here the
squares are summed row by row, then over rows. It runs once per step, on the accumulated gradients:
OneFlow 0.9.0 collects them as part of the backward pass that ``build`` traces. No constants are made here,
since a source operation would run once per micro-batch.
"""

from __future__ import annotations

from typing import Any, Container, Dict, List, Sequence, Union

import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import StageAxes, split_dim
from pipeloom.plugins.executors.oneflow.stages import Parameters

#: Added to the norm, as in ``torch.nn.utils.clip_grad_norm_``.
_EPS = 1e-6


def global_norm(stages: Sequence[Parameters], axes: Sequence[StageAxes], copied: Container[int] = ()) -> flow.Tensor:
    """The 2-norm of the gradients of all parameters, a scalar on the last stage.

    ``stages[s]`` are the parameters of stage s, whose ``grad`` the backward pass has set; it is replaced by its sum
    over the data-parallel ranks, lying where the update needs it, so that they are added up just once. ``copied`` are
    ids of parameters that do not count, since another stage has them too.
    """
    last, total = axes[-1], None
    for parameters, here in zip(stages, axes):
        # By where they lie: sums of parts are still to be added up.
        squares_by_sbp: Dict[str, List[flow.Tensor]] = {}
        for spec, parameter in parameters:
            sbp = here.update(spec)
            if len(here.ranks) > 1:
                parameter.grad = parameter.grad.to_global(placement=here.place, sbp=sbp)
            if id(parameter) in copied:
                continue
            squares_by_sbp.setdefault(str(sbp), []).append(_sum(parameter.grad * parameter.grad, sbp))
        for squares in squares_by_sbp.values():
            stage = flow.cat(squares).sum().to_global(placement=here.place, sbp=here.whole)
            stage = stage.to_global(placement=last.place, sbp=last.whole)
            total = stage if total is None else total + stage
    return flow.sqrt(total)


def _sum(square: flow.Tensor, sbp: Sequence[Any]) -> flow.Tensor:
    """Add up the rows, then their sums: ``(1,)``."""
    rows = square.sum(dim=-1) if len(square.shape) > 1 else square
    if len(rows.shape) == 1 and all(split_dim(part) is None for part in sbp):
        return rows.sum(dim=0, keepdim=True)
    return rows.sum().reshape(1)  # the engine would put parts together before it adds them up


class NormRecord(flow.nn.Module):
    """Keeps the sum of the norms since it was last read, since a graph can return nothing once per step.

    What a graph returns is packed once per micro-batch, and a norm exists once per step. But a parameter is
    updated once per step: with gradient ``-norm`` and SGD at rate 1, this one grows by the norm.
    """

    def __init__(self, axes: StageAxes) -> None:
        super().__init__()
        self.total = flow.nn.Parameter(flow.zeros(1, placement=axes.place, sbp=axes.whole))

    def forward(self):
        """Zero, computed from the parameter, so that the backward pass reaches it."""
        return self.total.sum() * 0.0

    def record(self, norm: flow.Tensor) -> None:
        self.total.grad = norm.reshape(1) * -1.0

    def optimizer(self) -> flow.optim.Optimizer:
        return flow.optim.SGD([self.total], lr=1.0)


def clip_factor(norm: flow.Tensor, max_norm: float) -> flow.Tensor:
    """``min(1, max_norm / (norm + 1e-6))``, where ``norm`` is."""
    return flow.clamp(max_norm / (norm + _EPS), max=1.0)


def scale_gradients(stages: Sequence[Parameters], axes: Sequence[StageAxes], factor: Union[flow.Tensor, float]) -> None:
    """Multiply every gradient by ``factor``, a number or a scalar on the last stage."""
    for parameters, here in zip(stages, axes):
        scale = factor if isinstance(factor, float) else factor.to_global(placement=here.place, sbp=here.whole)
        for _, parameter in parameters:
            parameter.grad = parameter.grad * scale
