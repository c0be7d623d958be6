"""As nearly the same number of blocks in each stage as can be, the first stages with one more."""

import pipeloom


@pipeloom.hookimpl
def pipeloom_partition(blocks, num_stages):
    count, more = divmod(len(blocks), num_stages)
    return [count + (stage < more) for stage in range(num_stages)]
