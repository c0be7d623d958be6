"""What a stage looks up for an earlier one (a tied word embedding), made ahead of the pipeline.

The vectors of a micro-batch leave their owner before the pipeline begins with it, and their gradient is back after
everything else of it is done. So whatever the owner keeps of a look-up until then must not be in the way of the next
one: OneFlow gives a tensor one register, and an operation waits until its last value has been used.
``docs/oneflow-notes.md`` has the cause and the smallest scripts that show it ("A look-up for an earlier stage ...").
"""

from __future__ import annotations

import oneflow as flow

from pipeloom.plugins.executors.oneflow.axes import StageAxes


class Waiting(flow.nn.Module):
    """Keep a tensor of several micro-batches, each until it has been used; ``give_registers`` says of how many.

    The engine has an operation for it, ``identity_buffer``, and puts it where the backward pass of a stage waits for
    the later ones; but not on the last stage, and no function makes one. So an ``identity`` stands here until the job
    is compiled.
    """

    def forward(self, x):
        return flow._C.identity(x)


def give_registers(job, name: str, count: int) -> None:
    """Let every operation of the ``Waiting`` module ``name`` in the engine's ``job`` keep ``count`` micro-batches."""
    for operation in job.net.op:
        if operation.name.startswith(f"{name}-identity"):
            operation.user_conf.op_type_name = "identity_buffer"
            operation.user_conf.attr["buffer_size"].at_int64 = count


class OwnGradient(flow.nn.Module):
    """Use a parameter once more, with a gradient that is accumulated by itself.

    The engine adds up the gradients of all uses for each micro-batch, then accumulates: that of a decoder would wait
    for that of the look-up, and with it the stage. But it accumulates for each variable; here that is a single number,
    given the gradient of the parameter.
    """

    def __init__(self, parameter: flow.nn.Parameter, axes: StageAxes) -> None:
        super().__init__()
        self.gradient_of = flow.nn.Parameter(flow.zeros(1, placement=axes.place, sbp=axes.whole))
        self.parameters_used = [parameter]  # in a list: not one of this module's

    def forward(self, parameter):
        """Return the parameter as a tensor without an operation of its own."""
        return _Use.apply(parameter.detach(), self.gradient_of)

    def add(self) -> None:
        """Add what has been accumulated to the parameter's gradient, once the backward pass has been traced."""
        (parameter,) = self.parameters_used
        parameter.grad = parameter.grad + self.gradient_of.grad
        self.gradient_of.grad = None  # else the engine would update it


class _Use(flow.autograd.Function):
    """Return ``x``, whose gradient is handed to another tensor."""

    @staticmethod
    def forward(ctx, x, gradient_of):
        return x.detach()

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient
