"""Stateless dropout: masks keyed by (seed, step, sample, place in the model), and by nothing else.

OneFlow's own dropout draws the same mask in every layer, rank and run (one constant seed), and a
generator with a state would tie the masks to a layout. So each sample brings two int32 (Philox of
seed and step, ``core.data.dropout_seeds``), which are mixed with a constant of the place and a
table over positions. The mix is two rounds of ``h (2h + 1)`` mod 2**32, the permutation of RC6 (Rivest
et al. 1998); its high bits, which decide, depend on all bits of the input. Not cryptographic.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import oneflow as flow


def _constant(name: str) -> int:
    """A number in the range of int32 from the name of a place in the model."""
    return crc32(name.encode()) - 2**31


def position_table(size: int) -> np.ndarray:
    """``int32 (1, size)``: one random number per position, the same in every layer, rank and run."""
    generator = np.random.Generator(np.random.Philox(key=[0x7AB1E, size]))
    return generator.integers(-(2**31), 2**31, size=(1, size), dtype=np.int64).astype(np.int32)


def _mix(h):
    return h * (h * 2 + 1)  # int32, modulo 2**32


def reference_mask(name: str, p: float, seeds: np.ndarray, size: int) -> np.ndarray:
    """The same masks in numpy: bool ``(B, size)``, true where a value is kept."""
    with np.errstate(over="ignore"):
        seeds = seeds.astype(np.int32)
        key = _mix(seeds[:, :1] + np.int32(_constant(name))) - seeds[:, 1:]
        h = _mix(key - position_table(size))
        h = _mix(h + np.int32(_constant(name + "/2")))
    return h >= _threshold(p)


def _threshold(p: float) -> int:
    return int(-(2**31) + p * 2**32)


class Dropout:
    """Dropout at one place of the model. ``scope.dropout(name, p, shape)`` makes one."""

    def __init__(self, name: str, p: float, table) -> None:
        self._p, self._table = float(p), table
        self._first, self._second = _constant(name), _constant(name + "/2")

    def __call__(self, x, seeds):
        """``x``: ``(B, ...)``; ``seeds``: int32 ``(B, 2)``, or ``None`` to keep all. Kept values are scaled by 1 / (1 -
        p).
        """
        if self._p == 0.0 or seeds is None:
            return x
        batch = x.shape[0]
        # Differences, not sums: OneFlow 0.9.0 adds int32 tensors of one shape in float32 on a CPU, rounded
        # and saturated, while differences and products wrap as they should (docs/oneflow-notes.md).
        key = _mix(flow.narrow(seeds, 1, 0, 1) + self._first) - flow.narrow(seeds, 1, 1, 1)  # (B, 1)
        h = _mix(key - self._table)  # (B, size)
        h = _mix(h + self._second)
        mask = (h >= _threshold(self._p)).to(flow.float32) * (1.0 / (1.0 - self._p))
        return x * mask.reshape(batch, *x.shape[1:])
