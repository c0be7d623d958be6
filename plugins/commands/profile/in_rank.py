"""A plugin for the ranks that ``profile`` starts: measures devices and networks before the first step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

import pipeloom
from pipeloom.core.base.files import replace_file

#: Bytes of messages.
SENT = (1 << 12, 1 << 16, 1 << 20, 1 << 24)
REDUCED = (1 << 12, 1 << 20, 1 << 23)
_COPIED = 1 << 26
#: Of products: long enough for processes to take turns on a core.
_SECONDS = 0.7


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "profile_of_ranks",
        str,
        section="cluster",
        path=True,
        transient=True,
        resume="fresh",
        per_node=True,
        help="where 'profile' wants what was measured of devices and networks",
    )


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    if run.config.profile_of_ranks is None:
        return
    found = {**_devices(run), **_networks(run)}
    rows = [json.loads(text) for text in run.collectives.all_gather_text(json.dumps(found["own"]))]
    cluster = run.plan.cluster
    if run.is_main or (not cluster.logical and run.rank % cluster.devices_per_node == 0):
        # Each node goes on with the same figures.
        content = {"ranks": rows, "sends": found["sends"], "all_reduces": found["all_reduces"]}
        replace_file(Path(run.config.profile_of_ranks), (json.dumps(content, indent=1) + "\n").encode())


def _devices(run: Any) -> Dict[str, Any]:
    """Products and copies, on the main rank alone and then on all ranks at once."""
    executor = run.plugins.hook.pipeloom_executor(config=run.config)
    half = run.config.precision == "amp"
    alone = executor.product_flops(half, _SECONDS) if run.is_main else None
    run.collectives.all_gather_text("")
    together = executor.product_flops(half, _SECONDS)
    return {"own": {"alone": alone, "together": together, "copy": _copy_rate()}}


def _copy_rate() -> float:
    """Bytes a second that memory moves for a copy: each is read and written."""
    source, target = np.ones(_COPIED // 8), np.empty(_COPIED // 8)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * _COPIED / best


def _networks(run: Any) -> Dict[str, Any]:
    cluster = run.plan.cluster
    sends: List[Dict[str, Any]] = []
    for where, pair in _pairs(cluster):
        for amount in SENT:
            seconds = run.collectives.exchange_seconds("send", pair, amount)
            # The receiver's time counts: a sender is done when the engine has taken the message.
            texts = run.collectives.all_gather_text(json.dumps(seconds))
            if seconds is not None:
                sends.append({"where": where, "bytes": amount, "seconds": json.loads(texts[pair[1]])})
    reduces: List[Dict[str, Any]] = []
    for where, group in _groups(cluster):
        for amount in REDUCED:
            seconds = run.collectives.exchange_seconds("all_reduce", group, amount)
            texts = run.collectives.all_gather_text(json.dumps(seconds))
            if seconds is not None:
                slowest = max(json.loads(texts[rank]) for rank in group)
                reduces.append({"where": where, "ranks": len(group), "bytes": amount, "seconds": slowest})
    return {"sends": sends, "all_reduces": reduces}


def _pairs(cluster: Any) -> List[Tuple[str, Sequence[int]]]:
    pairs: List[Tuple[str, Sequence[int]]] = []
    if cluster.devices_per_node > 1:
        pairs.append(("inside", (0, 1)))
    if cluster.nodes > 1:
        pairs.append(("between", (0, cluster.devices_per_node)))
    return pairs


def _groups(cluster: Any) -> List[Tuple[str, Sequence[int]]]:
    devices = cluster.devices_per_node
    groups: List[Tuple[str, Sequence[int]]] = []
    size = 2
    while size <= devices:
        groups.append(("inside", list(range(size))))
        size *= 2
    if cluster.nodes > 1:
        groups.append(("between", list(range(0, cluster.size, devices))))
        if devices > 1:
            groups.append(("all", list(range(cluster.size))))
    return groups
