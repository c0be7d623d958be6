"""What OneFlow's optimizers need to mean in a graph what they mean elsewhere."""
from __future__ import annotations

import re
from typing import List, Sequence, Tuple

import oneflow as flow

from pipeloom.core.blocks import ParameterSpec


def single_group(optimizer_class, parameters: Sequence[Tuple[ParameterSpec, flow.Tensor]], weight_decay: float,
                 clip_grad_norm: float, **settings) -> flow.optim.Optimizer:
    """An optimizer with one parameter group, whose weight decay leaves out specs with ``decay=False``.

    In a graph, OneFlow clips each parameter group by its own norm, so the usual two groups (with and
    without decay) would not be clipped by the global norm. One group is; the parameters without decay
    are named to the engine instead. ``clip_grad_norm`` 0 does not clip.
    """

    class SingleGroup(optimizer_class):
        def _generate_conf_for_graph(self, train_conf, vars_conf):
            confs = super()._generate_conf_for_graph(train_conf, vars_conf)
            for conf in confs:
                for tensor in without_decay:
                    name = vars_conf[tensor].name
                    vars_conf[tensor].l2 = 0.0                       # SGD: decay added to the gradient
                    if conf.HasField("weight_decay_conf"):           # AdamW: decay of the weight itself
                        conf.weight_decay_conf.excludes.pattern.append("^" + re.escape(name) + "$")
            return confs

    without_decay: List[flow.Tensor] = [tensor for spec, tensor in parameters if not spec.decay]
    group = {"params": [tensor for _, tensor in parameters], "weight_decay": weight_decay, **settings}
    if clip_grad_norm > 0:
        group.update(clip_grad_max_norm=clip_grad_norm, clip_grad_norm_type=2.0)
    return SingleGroup([group])
