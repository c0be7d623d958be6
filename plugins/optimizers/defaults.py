"""optimization: the default optimizers (AdamW, LAMB, SGD) and learning-rate schedules (constant, linear, polynomial,
cosine).
"""

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.optimizer import OptimizerSpec
from pipeloom.core.contract.schedule import KINDS, LRSchedule
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
        help="adamw (decoupled weight decay, Loshchilov & Hutter 2019), lamb (You et al. 2020) or sgd (with "
        "--momentum)",
    )
    add("learning_rate", float, 1e-3, cuda_default=1e-4, section="optimization", minimum=0, help="peak learning rate")
    add(
        "lr_schedule",
        str,
        "linear",
        section="optimization",
        choices=KINDS,
        help="what the learning rate does after the warmup: stay, or fall to --min_learning_rate at the last step",
    )
    add(
        "lr_power",
        float,
        2.0,
        section="optimization",
        minimum=0.01,
        help="exponent of the polynomial schedule; 1 = linear",
    )
    add(
        "min_learning_rate",
        float,
        0.0,
        section="optimization",
        minimum=0,
        help="where linear, polynomial and cosine end",
    )
    add(
        "warmup_steps",
        int,
        None,
        section="optimization",
        minimum=0,
        help="steps of linear warmup from 0 (default: a tenth of --train_steps, rounded down)",
    )
    add(
        "warmup_ratio",
        float,
        None,
        section="optimization",
        minimum=0,
        maximum=1,
        replaces="warmup_steps",
        help="the warmup as a share of --train_steps, rounded up; another way to give --warmup_steps",
    )
    add("weight_decay", float, 0.01, section="optimization", minimum=0, help="not applied to biases and LayerNorm")
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


@pipeloom.hookimpl(trylast=True)
def pipeloom_lr_schedule(config):
    if config.min_learning_rate > config.learning_rate:
        raise UsageError(
            f"--min_learning_rate {config.min_learning_rate} is above --learning_rate {config.learning_rate}"
        )
    return LRSchedule(
        config.learning_rate,
        config.lr_schedule,
        config.warmup_steps,
        config.train_steps,
        config.lr_power,
        config.min_learning_rate,
    )
