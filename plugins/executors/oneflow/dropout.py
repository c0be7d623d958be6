"""Dropout by the masks of ``core/contract/dropout_masks.py``, as operations of the engine.

OneFlow's own draws the same mask in every layer, rank and run (one constant seed), and a generator with a state would
tie the masks to a layout.
"""

from __future__ import annotations

import oneflow as flow

from pipeloom.core.contract.dropout_masks import mix, place_constants, threshold


class Dropout:
    """Drop values at one place of the model. ``scope.dropout(name, p, shape)`` makes one."""

    def __init__(self, name: str, p: float, table) -> None:
        self._p, self._table = float(p), table
        self._first, self._second = place_constants(name)

    def __call__(self, x, seeds):
        """Drop values of ``x``, ``(B, ...)``, and scale the others by 1 / (1 - p); all are kept where ``seeds``, int32
        ``(B, 2)``, are ``None``."""
        if self._p == 0.0 or seeds is None:
            return x
        batch = x.shape[0]
        # Differences, not sums: OneFlow 0.9.0 adds int32 tensors of one shape in float32 on a CPU, rounded
        # and saturated, while differences and products wrap as they should (docs/oneflow-notes.md).
        key = mix(flow.narrow(seeds, 1, 0, 1) + self._first) - flow.narrow(seeds, 1, 1, 1)  # (B, 1)
        h = mix(key - self._table)  # (B, size)
        h = mix(h + self._second)
        mask = (h >= threshold(self._p)).to(flow.float32) * (1.0 / (1.0 - self._p))
        return x * mask.reshape(batch, *x.shape[1:])
