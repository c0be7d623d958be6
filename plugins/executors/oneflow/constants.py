"""Constants that the operations of a graph share.

Each is an operation, one that repeats it for every micro-batch and one that starts it, and a graph takes as long to
compile as it has operations (docs/oneflow-notes.md); a LayerNorm alone needs nine of a few kinds.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

import oneflow as flow

_B = flow.sbp.broadcast
_shared: List[Dict[Any, flow.Tensor]] = []


@contextmanager
def shared_constants() -> Iterator[None]:
    """Let operations that are made in here share their constants, with those of no other such block.

    So what belongs together for the engine stays together: a stage's forward pass, blocks that are computed again, the
    backward pass.
    """
    _shared.append({})
    try:
        yield
    finally:
        _shared.pop()


def constant_like(shape, value, x, sbp=_B):
    """Return a constant where ``x`` is; ``sbp`` over the data-parallel ranks, whole in a tensor group."""
    all_sbp = [sbp] + [_B] * (x.placement.ranks.ndim - 1)
    known = _shared[-1] if _shared else {}
    key = (tuple(shape), value, x.dtype, str(x.placement), str(all_sbp))
    if key not in known:
        known[key] = flow._C.global_constant(shape, value, dtype=x.dtype, placement=x.placement, sbp=all_sbp)
    return known[key]
