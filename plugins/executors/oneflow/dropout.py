"""Dropout by the masks of ``core/contract/dropout_masks.py``, as operations of the engine.

OneFlow's own draws the same mask in every layer, rank and run (one constant seed), and a generator with a state would
tie the masks to a layout.
"""

from __future__ import annotations

from typing import List, Optional

import numpy as np
import oneflow as flow

from pipeloom.core.contract.dropout_masks import mix, place_constants, threshold


class Places:
    """Count the places of a stage where values are dropped, so that the keys of all are computed at once."""

    def __init__(self) -> None:
        self._names: List[str] = []

    def add(self, name: str) -> int:
        """Add a place and return its number."""
        self._names.append(name)
        return len(self._names) - 1

    def __len__(self) -> int:
        return len(self._names)

    def table(self) -> np.ndarray:
        """Return int32 ``(1, places)``: what is taken from the first seed for each of them."""
        firsts = [place_constants(name)[0] for name in self._names]
        return (-np.array([firsts], np.int64)).astype(np.int32)  # which wraps, as the engine's numbers do


def place_keys(seeds, table):
    """Return the keys of the samples at each place, int32 ``(B, places)``; ``seeds``: int32 ``(B, 2)``.

    In differences, not sums: OneFlow 0.9.0 adds int32 tensors of one shape in float32 on a CPU, rounded and saturated,
    while differences and products wrap as they should (docs/oneflow-notes.md).
    """
    return mix(flow.narrow(seeds, 1, 0, 1) - table) - flow.narrow(seeds, 1, 1, 1)


class Dropout:
    """Drop values at one place of the model. ``scope.dropout(name, p, shape)`` makes one."""

    def __init__(self, name: str, p: float, places: Optional[Places] = None, table=None) -> None:
        """``places``: where the stage drops values; ``table``: that of the positions; neither is needed for 0."""
        self._p, self._table = float(p), table
        self._number = places.add(name) if places is not None else 0
        self._second = place_constants(name)[1]

    def __call__(self, x, keys):
        """Drop values of ``x``, ``(B, ...)``, and scale the others by 1 / (1 - p); all are kept where ``keys``, int32
        ``(B, places)`` of ``place_keys``, are ``None``."""
        if self._p == 0.0 or keys is None:
            return x
        batch = x.shape[0]
        h = mix(flow.narrow(keys, 1, self._number, 1) - self._table)  # (B, size)
        h = mix(h + self._second)
        mask = (h >= threshold(self._p)).to(flow.float32) * (1.0 / (1.0 - self._p))
        return x * mask.reshape(batch, *x.shape[1:])
