"""The optimizers and learning-rate schedules of the contract as OneFlow has them in a graph."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.loss_scale import LossScaleRule
from pipeloom.core.contract.optimizer import Arrays, OptimizerSpec, Part, StepOptimizer
from pipeloom.core.contract.schedule import LRSchedule

#: Kind of ``OptimizerSpec`` -> what checkpoints call such an optimizer.
NAMES = {"adamw": "AdamW", "sgd": "SGD"}


def between_steps(optimizer: Union[OptimizerSpec, StepOptimizer], schedule: Any) -> Optional[StepOptimizer]:
    """Return what updates between the steps of the graph, ``None`` where the graph itself does.

    The engine's schedules are those of ``LRSchedule``; by another formula, the optimizer works between the steps too.
    """
    if isinstance(optimizer, StepOptimizer):
        return optimizer
    if isinstance(schedule, LRSchedule):
        return None
    return AdamW(optimizer) if optimizer.kind == "adamw" else SGD(optimizer)


def engine_optimizer(
    optimizer: OptimizerSpec, parameters: Sequence[Tuple[ParameterSpec, flow.Tensor]], rate: float
) -> flow.optim.Optimizer:
    """Return the engine's optimizer over ``parameters`` at the peak learning rate ``rate``."""
    numbers = optimizer.settings
    settings: Dict[str, Any] = {"lr": rate, "momentum": numbers.get("momentum", 0.0)}
    if optimizer.kind == "adamw":
        betas = (numbers["beta1"], numbers["beta2"])
        settings = {"lr": rate, "betas": betas, "eps": numbers["eps"], "do_bias_correction": True}
    kind = getattr(flow.optim, NAMES[optimizer.kind])
    return _single_group(kind, parameters, optimizer.weight_decay, settings)


def grad_scaler(rule: LossScaleRule) -> flow.amp.GradScaler:
    """Return the engine's dynamic loss scale by ``rule``.

    The engine counts what is not finite in the gradients of all parameters, of all stages and ranks and after all
    micro-batches; if there is any it leaves out the update and its own count of steps.
    """
    return flow.amp.GradScaler(rule.initial, rule.growth, 1.0 / rule.growth, rule.interval)


def _single_group(
    optimizer_class: Any,
    parameters: Sequence[Tuple[ParameterSpec, flow.Tensor]],
    weight_decay: float,
    settings: Mapping[str, Any],
) -> flow.optim.Optimizer:
    """Return an optimizer with one parameter group, whose weight decay leaves out specs with ``decay=False``.

    One group instead of the usual two keeps one learning rate and one update pass; the parameters without decay are
    named to the engine. Clipping is not the optimizer's: see ``plugins/executors/oneflow/clipping.py``.
    """

    class SingleGroup(optimizer_class):
        def _generate_conf_for_graph(self, train_conf, vars_conf):
            confs = super()._generate_conf_for_graph(train_conf, vars_conf)
            for conf in confs:
                for tensor in without_decay:
                    name = vars_conf[tensor].name
                    vars_conf[tensor].l2 = 0.0  # SGD: decay added to the gradient
                    if conf.HasField("weight_decay_conf"):  # AdamW: decay of the weight itself
                        conf.weight_decay_conf.excludes.pattern.append("^" + re.escape(name) + "$")
            return confs

    without_decay: List[flow.Tensor] = [tensor for spec, tensor in parameters if not spec.decay]
    group = {"params": [tensor for _, tensor in parameters], "weight_decay": weight_decay, **settings}
    return SingleGroup([group])


def engine_schedule(schedule: LRSchedule, optimizer: flow.optim.Optimizer) -> Any:
    """Return the engine's scheduler that follows ``schedule`` in a graph; ``None`` for a bare constant."""
    schedulers, inner = flow.optim.lr_scheduler, optimizer
    if schedule.kind in ("linear", "polynomial"):
        inner = schedulers.PolynomialLR(
            optimizer,
            decay_batch=schedule.decay_steps,
            end_learning_rate=schedule.final_rate,
            power=schedule.power if schedule.kind == "polynomial" else 1.0,
        )
    elif schedule.kind == "cosine":
        alpha = schedule.final_rate / schedule.rate if schedule.rate else 0.0
        inner = schedulers.CosineDecayLR(optimizer, decay_steps=schedule.decay_steps, alpha=alpha)
    elif schedule.warmup_steps == 0:
        return None
    if schedule.warmup_steps == 0:
        return inner
    # warmup_prefix: the inner schedule starts counting after the warmup.
    return schedulers.WarmUpLR(
        inner, warmup_factor=0.0, warmup_iters=schedule.warmup_steps, warmup_method="linear", warmup_prefix=True
    )


class AdamW(StepOptimizer):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) between the steps of the graph."""

    states = ("exp_avg", "exp_avg_sq")

    def __init__(self, spec: OptimizerSpec) -> None:
        self._spec = spec

    def update(self, parts: List[Optional[Part]], number: int, rate: float, arrays: Arrays) -> None:
        beta1, beta2, eps = (self._spec.settings[name] for name in ("beta1", "beta2", "eps"))
        for part in filter(None, parts):
            first, second = part.state["exp_avg"], part.state["exp_avg_sq"]
            arrays.assign(first, first * beta1 + part.gradient * (1 - beta1))
            arrays.assign(second, second * beta2 + part.gradient * part.gradient * (1 - beta2))
            denominator = arrays.sqrt(second * (1 / (1 - beta2**number))) + eps
            change = first * (1 / (1 - beta1**number)) / denominator
            if part.spec.decay and self._spec.weight_decay:
                change = change + part.weight * self._spec.weight_decay
            arrays.assign(part.weight, part.weight - change * rate)


class SGD(StepOptimizer):
    """Gradient descent with momentum and decay added to the gradient, between the steps of the graph."""

    states = ("momentum_buffer",)

    def __init__(self, spec: OptimizerSpec) -> None:
        self._spec = spec

    def update(self, parts: List[Optional[Part]], number: int, rate: float, arrays: Arrays) -> None:
        for part in filter(None, parts):
            gradient = part.gradient
            if part.spec.decay and self._spec.weight_decay:
                gradient = gradient + part.weight * self._spec.weight_decay
            buffer = part.state["momentum_buffer"]
            # The engine's momentum keeps the change itself, with the learning rate in it.
            arrays.assign(buffer, buffer * self._spec.settings.get("momentum", 0.0) - gradient * rate)
            arrays.assign(part.weight, part.weight + buffer)
