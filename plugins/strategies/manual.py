"""manual: partitioner by hand: ``--split 8,9,7`` gives the stages 8, 9 and 7 blocks, as ``"E+7T|9T|6T+H"`` does.

In the second form E is what stands before the layers, T a layer, and H what stands after them.
"""

import re

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.options import IntList

_TERM = re.compile(r"\s*(?:(E)|(\d*)T|(H))\s*")


class Split:
    """The type of ``--split``: counts with commas between them, or stages of E, T and H with ``|`` between them."""

    wanted = "whole numbers with commas between them, or stages like E+12T|12T+H"
    schema = {"anyOf": [*IntList.schema["anyOf"], {"type": "string", "pattern": r"^[\sETH\d+|]*[ETH][\sETH\d+|]*$"}]}

    @staticmethod
    def convert(value):
        if not isinstance(value, str) or not re.search("[ETH]", value):
            return IntList.convert(value)
        counts, kinds = [], ""
        for stage in value.split("|"):
            here = 0
            for term in stage.split("+"):
                found = _TERM.fullmatch(term)
                if found is None:
                    return None
                kinds += "E" if found.group(1) else "H" if found.group(3) else "T"
                here += int(found.group(2) or 1) if kinds[-1] == "T" else 1
            counts.append(here)
        ends = kinds.count("E") == 1 == kinds.count("H") and kinds[0] == "E" and kinds[-1] == "H"
        return counts if ends else None


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "split",
        Split,
        None,
        section="parallel",
        resume="free",
        help="blocks of each stage, embeddings, layers and head counting one each: 13,13; or in words: E+12T|12T+H",
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
