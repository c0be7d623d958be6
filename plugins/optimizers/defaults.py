"""optimization: the default optimizers: AdamW, LAMB, SGD."""

import pipeloom
from pipeloom.core.contract.optimizer import OptimizerSpec
from pipeloom.plugins.optimizers.lamb import Lamb


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add = options.add
    add(
        "optimizer",
        str,
        "adamw",
        section="optimization",
        choices=("adamw", "lamb", "sgd"),
        model_card=True,
        help="adamw (decoupled weight decay, Loshchilov & Hutter 2019), lamb (You et al. 2020) or sgd (with "
        "--momentum)",
    )
    add(
        "weight_decay",
        float,
        0.01,
        section="optimization",
        minimum=0,
        model_card=True,
        help="not applied to biases and LayerNorm",
    )
    add(
        "adam_beta1",
        float,
        0.9,
        section="optimization",
        minimum=0,
        maximum=1,
        help="AdamW, LAMB: decay of the first moment",
    )
    add(
        "adam_beta2",
        float,
        0.999,
        section="optimization",
        minimum=0,
        maximum=1,
        help="AdamW, LAMB: decay of the second moment",
    )
    add("adam_eps", float, 1e-6, section="optimization", minimum=0, help="AdamW, LAMB: added to the denominator")
    add("momentum", float, 0.0, section="optimization", minimum=0, maximum=1, help="SGD: momentum")


@pipeloom.hookimpl(trylast=True)
def pipeloom_build_optimizer(config, parameters):
    if config.optimizer == "lamb":
        return Lamb((config.adam_beta1, config.adam_beta2), config.adam_eps, config.weight_decay)
    if config.optimizer == "sgd":
        return OptimizerSpec("sgd", config.weight_decay, {"momentum": config.momentum})
    settings = {"beta1": config.adam_beta1, "beta2": config.adam_beta2, "eps": config.adam_eps}
    return OptimizerSpec("adamw", config.weight_decay, settings)
