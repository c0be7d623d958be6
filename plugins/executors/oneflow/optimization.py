"""What OneFlow's optimizers need to mean in a graph what they mean elsewhere."""

from __future__ import annotations

import re
from typing import List, Sequence, Tuple

import oneflow as flow

from pipeloom.core.contract.blocks import ParameterSpec


def single_group(
    optimizer_class, parameters: Sequence[Tuple[ParameterSpec, flow.Tensor]], weight_decay: float, **settings
) -> flow.optim.Optimizer:
    """An optimizer with one parameter group, whose weight decay leaves out specs with ``decay=False``.

    One group instead of the usual two keeps one learning rate and one update pass; the parameters without
    decay are named to the engine. Clipping is not the optimizer's: see ``plugins/executors/oneflow/clipping.py``.
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
