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

from pipeloom.core.contract.blocks import ParameterSpec
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
        squares = _Squares(here)
        vectors = [pair for pair in parameters if _is_short(*pair, here) and id(pair[1]) not in copied]
        if len(vectors) > 1:
            squares.add(_join(vectors, here), here.whole)
        joined = {id(parameter) for _, parameter in vectors} if len(vectors) > 1 else set()
        for spec, parameter in parameters:
            sbp = here.update(spec)
            if len(here.ranks) > 1:
                parameter.grad = parameter.grad.to_global(placement=here.place, sbp=sbp)
            if id(parameter) not in copied and id(parameter) not in joined:
                squares.add(parameter.grad, sbp)
        for stage in squares.sums():
            stage = stage.to_global(placement=last.place, sbp=last.whole)
            total = stage if total is None else total + stage
    return flow.sqrt(total)


def _is_short(spec: ParameterSpec, parameter: Any, here: StageAxes) -> bool:
    """Return whether each rank has the whole parameter and a gradient of it, and it is a bias or the like."""
    return len(spec.shape) == 1 and all(split_dim(part) is None for part in here.parameter(spec))


def _join(vectors: Parameters, here: StageAxes) -> flow.Tensor:
    """Put the gradients of vectors in a row, and add them up over the data-parallel ranks in one exchange.

    A bucket, as in PyTorch's DDP (Li et al. 2020), for what is so small that it costs its messages and not its bytes;
    the engine makes tasks for each exchange, which it must compile and start.
    """
    joined = flow.cat([parameter.grad for _, parameter in vectors])
    if len(here.ranks) == 1:
        return joined
    joined, start = joined.to_global(placement=here.place, sbp=here.whole), 0
    for _, parameter in vectors:
        parameter.grad = flow.narrow(joined, 0, start, parameter.shape[0])
        start += parameter.shape[0]
    return joined


class _Squares:
    """Add up the squares of what lies on a stage, row by row, then over the rows of all of it."""

    def __init__(self, here: StageAxes) -> None:
        self._here = here
        self._rows: List[flow.Tensor] = []
        # By where they lie: sums of parts are still to be added up.
        self._split: Dict[str, List[flow.Tensor]] = {}

    def add(self, value: flow.Tensor, sbp: Sequence[Any]) -> None:
        square = value * value
        rows = square.sum(dim=-1) if len(square.shape) > 1 else square
        if len(rows.shape) == 1 and all(split_dim(part) is None for part in sbp):
            self._rows.append(rows)
        else:  # the engine would put parts together before it adds them up
            self._split.setdefault(str(sbp), []).append(rows.sum().reshape(1))

    def sums(self) -> List[flow.Tensor]:
        """Return what has been added, as scalars on each rank of the stage; one for each way to lie."""
        found = [flow.cat(self._rows).sum()] if self._rows else []
        found += [flow.cat(squares).sum() for squares in self._split.values()]
        return [one.to_global(placement=self._here.place, sbp=self._here.whole) for one in found]


class NormRecord(flow.nn.Module):
    """Keeps the sum of the norms since it was last read, since a graph can return nothing once per step.

    What a graph returns is packed once per micro-batch, and a norm exists once per step. But a parameter is
    updated once per step: with gradient ``-norm`` and SGD at rate 1, this one grows by the norm.
    """

    def __init__(self, axes: StageAxes) -> None:
        super().__init__()
        self.total = flow.nn.Parameter(flow.zeros(1, placement=axes.place, sbp=axes.whole))

    def forward(self, measures_scale: bool = False):
        """Return what lets the backward pass reach the parameter: zero, or (``measures_scale``) with derivative 1."""
        return self.total.sum() * (1.0 if measures_scale else 0.0)

    def gradient(self) -> flow.Tensor:
        """Return what the backward pass left: the sum of the loss scales of the micro-batches, if they are measured."""
        return self.total.grad.reshape(())

    def record(self, norm: flow.Tensor) -> None:
        self.total.grad = norm.reshape(1) * -1.0

    def optimizer(self) -> flow.optim.Optimizer:
        return flow.optim.SGD([self.total], lr=1.0)


def in_float32(stages: Sequence[Sequence[Any]]) -> None:
    """Keep what is computed of gradients in float32, with ``(..., parameter)`` of each stage.

    Left to itself, the engine's mixed precision may compute with a gradient in float16, which a product of half
    precision has left; a square of 256 is beyond float16, and a loss scale of 65536 too.
    """
    for parameters in stages:
        for _, parameter in parameters:
            parameter.grad = flow._C.amp_black_identity(parameter.grad)


def clip_factor(norm: flow.Tensor, max_norm: float) -> flow.Tensor:
    """``min(1, max_norm / (norm + 1e-6))``, where ``norm`` is."""
    return flow.clamp(max_norm / (norm + _EPS), max=1.0)


def scale_gradients(stages: Sequence[Parameters], axes: Sequence[StageAxes], factor: Union[flow.Tensor, float]) -> None:
    """Multiply every gradient by ``factor``, a number or a scalar on the last stage."""
    for parameters, here in zip(stages, axes):
        scale = factor if isinstance(factor, float) else factor.to_global(placement=here.place, sbp=here.whole)
        for _, parameter in parameters:
            parameter.grad = parameter.grad * scale
