"""lr_schedules: the default learning-rate schedules: constant, linear, polynomial, cosine."""

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.schedule import KINDS, LRSchedule


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add = options.add
    add(
        "learning_rate",
        float,
        1e-3,
        cuda_default=1e-4,
        section="optimization",
        minimum=0,
        model_card=True,
        help="peak learning rate",
    )
    add(
        "lr_schedule",
        str,
        "linear",
        section="optimization",
        choices=KINDS,
        model_card=True,
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
        model_card=True,
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
