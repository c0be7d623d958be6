"""From timed messages to networks: latency and bandwidth by least squares, and how far off the line is."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from pipeloom.core.planning.cost.hardware import Network

_LEAST_LATENCY = 1e-7


def fit_line(rows: Sequence[Mapping[str, float]]) -> Tuple[float, float, float]:
    """Return latency (s), bandwidth (bytes/s) and the mean relative error of ``latency + bytes / bandwidth``.

    Relative errors are made small, so that short messages count as much as long ones; neither is let fall below zero.
    """
    sizes = np.array([row["bytes"] for row in rows], float)
    seconds = np.array([row["seconds"] for row in rows], float)
    shape = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    found, *_ = np.linalg.lstsq(shape, np.ones_like(seconds), rcond=None)
    latency, slope = max(float(found[0]), _LEAST_LATENCY), float(found[1])
    if slope <= 0:
        slope = float(seconds[-1] / sizes[-1])
    error = float(np.mean(np.abs((latency + sizes * slope) / seconds - 1)))
    return latency, 1 / slope, error


def networks_of(measured: Mapping[str, Any]) -> Tuple[Dict[str, Network], List[str]]:
    """Return the networks by name (``"inside"``, ``"between"``), and lines on what was measured."""
    found: Dict[str, Network] = {}
    lines = []
    for where in ("inside", "between"):
        rows = [row for row in measured["sends"] if row["where"] == where]
        if not rows:
            continue
        latency, bandwidth, error = fit_line(rows)
        groups: Dict[int, float] = {}
        for row in measured["all_reduces"]:
            if row["where"] == where == "inside" and row["bytes"] == max(
                one["bytes"] for one in measured["all_reduces"]
            ):
                ranks = row["ranks"]
                turns = 2 * (ranks - 1)
                rest = row["seconds"] - turns * latency
                if rest > 0:
                    groups[ranks] = turns / ranks * row["bytes"] / rest
        found[where] = Network(bandwidth, latency, groups)
        listed = "".join(f", all-reduce of {n} at {rate / 1e6:,.0f} MB/s" for n, rate in sorted(groups.items()))
        line = f"{bandwidth / 1e6:,.0f} MB/s, {latency * 1e6:,.0f} us (off by {error:.0%} on average)"
        lines.append(f"{where} nodes: {line}{listed}")
    return found, lines


def _groups(reduces: Sequence[Mapping[str, Any]], latency: float) -> Dict[int, float]:
    """The bandwidth that a ring over each size of group inside a node reaches, by its largest message."""
    rows = [row for row in reduces if row["where"] == "inside"]
    most = max((row["bytes"] for row in rows), default=0)
    found = {}
    for row in rows:
        turns = 2 * (row["ranks"] - 1)
        rest = row["seconds"] - turns * latency
        if row["bytes"] == most and rest > 0:
            found[row["ranks"]] = turns / row["ranks"] * row["bytes"] / rest
    return found
