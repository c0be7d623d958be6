"""manual_placement: strategy by hand: ``--stages "0,3;1,2"`` or, in YAML, ``parallel: {stages: [[0, 3], [1, 2]]}``."""

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.options import IntLists
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import mesh_from_splits


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "stages",
        IntLists,
        None,
        section="parallel",
        resume="free",
        help='the ranks that hold each stage, "0,3;1,2"; the engine pairs neighbouring stages by sorted rank',
    )


@pipeloom.hookimpl
def pipeloom_choose_layout(cluster, config):
    if config.stages is None:
        raise UsageError(
            f"plugin 'manual_placement' needs --stages: the ranks 0 to {cluster.size - 1} dealt to stages, for "
            f'instance "0,1;2,3"'
        )
    if config.nums_split not in (None, len(config.stages)):
        raise UsageError(
            f"--stages has {len(config.stages)} stages, --nums_split is {config.nums_split}: leave the latter out"
        )
    Placement.of(cluster, config.stages)
    return mesh_from_splits(cluster, len(config.stages), config.tensor_parallel)


@pipeloom.hookimpl
def pipeloom_place(cluster, mesh, config):
    return Placement.of(cluster, config.stages)
