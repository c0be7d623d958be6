"""Quantities with units as people write them: ``16 GiB``, ``100 Gbit/s``, ``5 us``, ``125 TFLOP/s``."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

from pipeloom.core.base.errors import UsageError, did_you_mean

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_BIT = 1 / 8

BYTES: Mapping[str, float] = {f"{prefix}B": size for prefix, size in {**_DECIMAL, **_BINARY}.items()}
BYTES_A_SECOND: Mapping[str, float] = {
    **{f"{prefix}B/s": size for prefix, size in {**_DECIMAL, **_BINARY}.items()},
    **{f"{prefix}bit/s": size * _BIT for prefix, size in _DECIMAL.items()},
}
SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
FLOPS: Mapping[str, float] = {f"{prefix}FLOP/s": size for prefix, size in _DECIMAL.items()}
#: A share or a factor: no unit.
NUMBER: Mapping[str, float] = {"": 1.0}

_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\S*)\s*$")
#: What is tried first where a quantity is written, of each kind of unit.
_USUAL: Dict[int, tuple] = {
    id(BYTES): ("GiB", "MiB", "B"),
    id(BYTES_A_SECOND): ("GB/s", "MB/s", "kB/s", "B/s"),
    id(SECONDS): ("s", "ms", "us", "ns"),
    id(FLOPS): ("TFLOP/s", "GFLOP/s", "MFLOP/s", "FLOP/s"),
    id(NUMBER): ("",),
}


def parse_quantity(value: Any, units: Mapping[str, float], where: str) -> float:
    """Return ``value``, a number with one of ``units``, in the unit that counts 1.

    Raises ``UsageError``, which begins with ``where``, for no number, another unit or none, and for what is not more
    than 0.
    """
    example = _example(units)
    found = _QUANTITY.match(str(value)) if not isinstance(value, bool) else None
    if found is None:
        raise UsageError(f"{where}: {value!r} is no quantity: write a number{example}")
    number, unit = float(found.group(1)), found.group(2)
    if unit not in units:
        what = f"'{unit}' is no unit for it{did_you_mean(unit, units)}" if unit else "it has no unit"
        raise UsageError(f"{where}: {value}: {what}; write a number{example or ' alone'}")
    if not 0 < number * units[unit] < float("inf"):
        raise UsageError(f"{where}: {value}: it must be more than 0")
    return number * units[unit]


def write_quantity(value: float, units: Mapping[str, float]) -> Any:
    """Return ``value`` as ``parse_quantity`` reads it, in the first usual unit in which it is 1 at least."""
    names = _USUAL[id(units)]
    if names == ("",):
        return float(f"{value:.6g}")
    name = next((name for name in names if value >= units[name]), names[-1])
    return f"{value / units[name]:.6g} {name}"


def _example(units: Mapping[str, float]) -> str:
    if units is NUMBER:
        return ""
    name = _USUAL[id(units)][0]
    return f" and a unit, for instance '5 {name}'"
