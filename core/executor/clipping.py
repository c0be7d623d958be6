"""Clipping by the global norm, inside the graph, over all stages and parameter groups.

OneFlow's own clips each parameter group by itself and sums squares naively in float32, stage by stage, so
the norm of a large embedding is off by 4e-4 and depends on the layout (docs/oneflow-notes.md). Here the
squares are summed row by row, then over rows. It runs once per step, on the accumulated gradients:
OneFlow 0.9.0 collects them as part of the backward pass that ``build`` traces. No constants are made here,
since a source operation would run once per micro-batch.
"""
from __future__ import annotations

from typing import Container, Sequence

import oneflow as flow

#: Added to the norm, as in ``torch.nn.utils.clip_grad_norm_``.
_EPS = 1e-6


def global_norm(stages: Sequence[Sequence[flow.Tensor]], places: Sequence[flow.placement],
                copied: Container[int] = ()) -> flow.Tensor:
    """The 2-norm of the gradients of all parameters, a scalar on the last stage.

    ``stages[s]`` are the parameters of stage s, whose ``grad`` the backward pass has set; it is replaced by
    its sum over the data-parallel ranks, so that they are added up just once. ``copied`` are ids of parameters
    that do not count, since another stage has them too.
    """
    total = None
    for parameters, place in zip(stages, places):
        squares = []
        for parameter in parameters:
            parameter.grad = parameter.grad.to_global(placement=place, sbp=flow.sbp.broadcast)
            if id(parameter) in copied:
                continue
            square = parameter.grad * parameter.grad
            squares.append((square.sum(dim=-1) if len(square.shape) > 1 else square).sum().reshape(1))
        stage = flow.cat(squares).sum().to_global(placement=places[-1], sbp=flow.sbp.broadcast)
        total = stage if total is None else total + stage
    return flow.sqrt(total)


class NormRecord(flow.nn.Module):
    """Keeps the sum of the norms since it was last read, since a graph can return nothing once per step.

    What a graph returns is packed once per micro-batch, and a norm exists once per step. But a parameter is
    updated once per step: with gradient ``-norm`` and SGD at rate 1, this one grows by the norm.
    """

    def __init__(self, place: flow.placement) -> None:
        super().__init__()
        self.total = flow.nn.Parameter(flow.zeros(1, placement=place, sbp=flow.sbp.broadcast))

    def forward(self):
        """Zero, computed from the parameter, so that the backward pass reaches it."""
        return self.total.sum() * 0.0

    def record(self, norm: flow.Tensor) -> None:
        self.total.grad = norm.reshape(1) * -1.0

    def optimizer(self) -> flow.optim.Optimizer:
        return flow.optim.SGD([self.total], lr=1.0)


def clip(stages: Sequence[Sequence[flow.Tensor]], places: Sequence[flow.placement], norm: flow.Tensor, max_norm: float) -> None:
    """Scale every gradient by ``min(1, max_norm / (norm + 1e-6))``; ``norm`` is that of the gradients."""
    factor = flow.clamp(max_norm / (norm + _EPS), max=1.0)
    for parameters, place in zip(stages, places):
        here = factor.to_global(placement=place, sbp=flow.sbp.broadcast)
        for parameter in parameters:
            parameter.grad = parameter.grad * here
