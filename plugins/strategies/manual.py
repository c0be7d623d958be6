"""manual: partitioner by hand: ``--split 8,9,7`` gives the stages 8, 9 and 7 blocks."""

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.options import IntList


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "split",
        IntList,
        None,
        section="parallel",
        resume="free",
        help="blocks of each stage: embeddings, layers and head count one each",
    )


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages, config):
    if config.split is None:
        raise UsageError(f"plugin 'manual' needs --split: {num_stages} numbers of blocks that sum up to {len(blocks)}")
    listed = ",".join(map(str, config.split))
    if len(config.split) != num_stages:
        raise UsageError(
            f"--split {listed} has {len(config.split)} stages, --nums_split is {num_stages}: make them agree"
        )
    if sum(config.split) != len(blocks) or min(config.split) < 1:
        names = f"{blocks[0].name}, ..., {blocks[-1].name}"
        raise UsageError(
            f"--split {listed} gives out {sum(config.split)} blocks, the model has {len(blocks)} ({names}); "
            "each stage needs one at the least"
        )
    return config.split
