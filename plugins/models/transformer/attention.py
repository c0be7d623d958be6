"""How attention is cut into rows of queries, and what a layer costs by that.

A causal token attends to no later one. So its scores are computed for a few runs of queries, each over the keys up to
the end of the run: the numbers are those of the whole square, and nearly half of it is never made.
"""

from __future__ import annotations

from typing import Tuple

from pipeloom.core.contract.blocks import Cost
from pipeloom.plugins.models.transformer.sizes import Sizes

#: The runs that a sequence is cut into at most: four leave 5/8 of the square, eight 9/16. Each adds operations to the
#: graph of every layer.
_MOST_RUNS = 4
#: Tokens that a run has at least: products of fewer rows cost more than they save.
_FEWEST_ROWS = 16


def query_runs(sizes: Sizes) -> Tuple[Tuple[int, int], ...]:
    """Return the runs of queries that are computed together, as ``(start, stop)``; a causal run sees ``stop`` keys."""
    length = sizes.seq_length
    count = max(1, min(_MOST_RUNS, length // _FEWEST_ROWS)) if sizes.causal else 1
    bounds = [number * length // count for number in range(count + 1)]
    return tuple(zip(bounds, bounds[1:]))


def keys_per_query(sizes: Sizes) -> float:
    """Return for how many keys a score is computed, as a mean over the queries of a sequence."""
    return sum((stop - start) * stop for start, stop in query_runs(sizes)) / sizes.seq_length


def layer_cost(sizes: Sizes) -> Cost:
    """Return the cost of one layer per token, forward.

    FLOPs: the six products 8 h^2 + 4 h f, and attention's two, 4 K h over K keys (Narayanan et al. 2021,
    appendix, without the head; K is the length of the sequence there). Kept for backward in float32: inputs of the
    products, the attention probabilities and masks (3 per head and key), LayerNorm's and GELU's own (Korthikanti et
    al. 2022 count the same tensors in half precision).
    """
    h, f, keys, heads = sizes.hidden, sizes.intermediate, keys_per_query(sizes), sizes.heads
    return Cost(
        flops=8.0 * h * h + 4.0 * h * f + 4.0 * keys * h,
        output_bytes=4.0 * h,
        kept_bytes=4.0 * (13 * h + 2 * f + 3 * heads * keys),
        # Attention and MLP: forward after the rows, backward before the columns (Shoeybi et al. 2019).
        tensor_bytes=4.0 * 4 * h,
    )
