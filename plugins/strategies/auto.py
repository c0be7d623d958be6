"""auto: the layout that a step takes the least time in, of all that fit, by the cost model of ``plan --search``.

It decides stages, tensor groups, micro-batches, split, placement, recomputation, sharding and the form of a tied table;
what is given on the command line stays as it is given. The machines are those of ``--cluster cluster.yaml``
(``profile`` measures one), else what is known of this one.
"""

import time

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.layout_choice import LayoutChoice
from pipeloom.core.planning.machines import rank_room
from pipeloom.core.planning.ranking import describe_candidate, why_slower
from pipeloom.core.planning.searching import fits_in, search_of
from pipeloom.plugins.libraries.layout_search import placed


@pipeloom.hookimpl
def pipeloom_choose_layout(cluster, model, config, memory):
    began = time.monotonic()
    search, known = search_of(config, cluster, model)
    room = rank_room(known.machines)
    fits = fits_in(room, memory)
    found = search.best(2, fits)
    if not found.best:
        raise UsageError(_nothing(config, cluster, found, room))
    best = found.best[0]
    lines = [
        f"auto       {describe_candidate(best)}: {best.seconds:.3g} s a step predicted; {found.candidates} layouts "
        f"weighed in {time.monotonic() - began:.1f} s ({known.source})"
    ]
    others = [one for one in search.best_of_each_kind(fits) if one.mesh != best.mesh or one.order != best.order]
    for other in others[:2]:
        lines.append(f"           not {describe_candidate(other)}: {why_slower(search, best, other)}")
    options = {name: value for name, value in best.options.items() if name not in config.given}
    options.pop("nums_split", None)
    placement = placed(cluster, best.mesh, best.order)
    return LayoutChoice(best.mesh, best.layout.split, placement, options, tuple(lines))


def _nothing(config, cluster, found, room):
    if found.unfit:
        return (
            f"no layout of this model with --train_global_batch_size {config.train_global_batch_size} on {cluster} "
            f"fits into {room / 1e9:.1f} GB a rank: take more devices, a smaller batch or model"
        )
    return (
        f"no layout of {cluster} divides --train_global_batch_size {config.train_global_batch_size} with the options "
        f"that are given: leave out some of --nums_split, --tensor_parallel, --grad_acc_steps, or change the batch"
    )


@pipeloom.hookimpl(trylast=True)
def pipeloom_place(cluster, mesh):
    """Where something else has chosen the mesh (a single device, another plugin's layout): ranks in order."""
    return placed(cluster, mesh, "inter_first")
