"""Activations on their way from one stage to another, and their gradients back."""

from __future__ import annotations

import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import StageAxes, over_data


def carry(x_BLH: flow.Tensor, source: StageAxes, target: StageAxes) -> flow.Tensor:
    """Activations of the stage ``source`` on the ranks of ``target``.

    The ranks of a tensor group all have them, so each sends its own part of H to its partner, and the partners
    put the parts together (Narayanan et al. 2021, section 4.1); their gradients come back the same way.
    """
    if source is target:
        return x_BLH
    if source.tensor == 1:
        return x_BLH.to_global(placement=target.place, sbp=target.batch)

    class Carry(flow.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return _by_parts(x, source, target)

        @staticmethod
        def backward(ctx, gradient):
            return _by_parts(gradient, target, source)

    return Carry.apply(x_BLH).to_global(placement=target.place, sbp=target.batch, grad_sbp=target.batch)


def _by_parts(x_BLH: flow.Tensor, source: StageAxes, target: StageAxes) -> flow.Tensor:
    parts = source.sbp(over_data(source.place), flow.sbp.split(2))
    # The products by 1 keep the engine from merging the three steps into one.
    x_BLH = x_BLH.to_global(placement=source.place, sbp=parts) * 1.0
    x_BLH = x_BLH.to_global(placement=target.place, sbp=parts) * 1.0
    return x_BLH.to_global(placement=target.place, sbp=target.batch)
