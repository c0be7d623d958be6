"""Something to prepare: ``entry.py prepare --plugins ./examples/hooks/prepare_kinds.py digits --output DIR``."""

from pathlib import Path

import numpy as np

import pipeloom
from pipeloom.core.base.files import whole_folder
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.plugins.libraries.ofrecord.records import write_part


def add_arguments(parser):
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--records", type=int, default=10, metavar="N", help="how many [10]")


def prepare(options):
    digits = np.random.default_rng(0).integers(0, 10, (options.records, 8)).astype(np.int32)
    with whole_folder(Path(options.output)) as scratch:  # it appears when it is whole
        totals = digits.sum(1, keepdims=True, dtype=np.int32)
        write_part(scratch / "part-0", [{"digits": row, "total": total} for row, total in zip(digits, totals)])
    print(f"{options.output}: {options.records} records")
    return 0


@pipeloom.hookimpl
def pipeloom_prepare_kinds():
    return [PrepareKind("digits", "rows of eight digits and their sums", add_arguments, prepare)]
