"""by_memory: partitioner whose largest peak of memory is as small as can be, by what the engine says of each stage.

A stage's memory grows with its blocks, and with how many micro-batches it keeps: the first stages keep the most, so
they get fewer blocks. Exact: a bound on the peak is halved until it is found, and for each bound every stage takes
as many blocks as fit.
"""

import pipeloom
from pipeloom.core.base.errors import UsageError


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages, config, memory):
    count = len(blocks)
    if num_stages > count:
        raise UsageError(
            f"--nums_split {num_stages}: the model has only {count} blocks to split, so at most {count} stages"
        )
    known = {}

    def peak(stage, start, end):
        """What a stage of blocks ``start`` to ``end`` takes, whatever the others have."""
        if (stage, start, end) not in known:
            split = [*_spread(start, stage), end - start, *_spread(count - end, num_stages - stage - 1)]
            known[stage, start, end] = memory(split)[stage].total
        return known[stage, start, end]

    low, high = 0.0, max(one.total for one in memory(_spread(count, num_stages)))
    best = _fill(count, num_stages, high, peak)
    while high - low > 1e-4 * high:
        bound = (low + high) / 2
        found = _fill(count, num_stages, bound, peak)
        if found is None:
            low = bound
        else:
            best, high = found, bound
    return best


def _spread(count, stages):
    """``count`` blocks over ``stages``, evenly."""
    return [count // stages + (number < count % stages) for number in range(stages)] if stages else []


def _fill(count, stages, bound, peak):
    """A split that keeps ``bound``, each stage with as many blocks as it can have; ``None`` where there is none."""
    split, start = [], 0
    for stage in range(stages - 1):
        least, most = start + 1, count - (stages - 1 - stage)
        if peak(stage, start, least) > bound:
            return None
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if peak(stage, start, middle) <= bound else (least, middle - 1)
        split.append(least - start)
        start = least
    return [*split, count - start] if peak(stages - 1, start, count) <= bound else None
