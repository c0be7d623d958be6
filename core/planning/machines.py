"""The machines of a run: by its ``cluster.yaml``, or what is known of this machine without measuring."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, Optional, Tuple

from pipeloom.core.base.devices import find_gpus
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.free_memory import find_room
from pipeloom.core.base.gpu_peaks import gpu_bandwidth, gpu_peak
from pipeloom.core.config.config import Config
from pipeloom.core.contract.topology import Cluster
from pipeloom.core.planning.cost.cluster_file import read_machines
from pipeloom.core.planning.cost.fit import CPU_USUAL, default_calibration
from pipeloom.core.planning.cost.hardware import Device, Machines, Network

#: A core of a server or laptop of today with AVX2, and the memory of a machine shared by its cores: rounded guesses.
_CORE_PEAK, _MACHINE_BANDWIDTH, _MEMORY = 75e9, 16e9, 8e9
#: PCI Express 3.0 x16 and Ethernet of 10 Gbit/s: what joins GPUs and nodes where nothing is said.
_PCIE, _ETHERNET = Network(12e9, 10e-6), Network(1.25e9, 50e-6)
#: Between processes of one machine, over its loopback.
_LOOPBACK = Network(1.5e9, 60e-6)
#: The share of a GPU's memory that a rank gets: the driver's context and libraries take the rest.
_OF_GPU = 0.94


class Known(NamedTuple):
    """``machines``, and in words from where they are known."""

    machines: Machines
    source: str


def known_machines(config: Config, cluster: Cluster) -> Known:
    """Return the machines of a run on ``cluster``.

    Raises ``UsageError`` where ``--cluster`` names a file that is wrong, or is of another kind of devices.
    """
    if config.cluster_file is None:
        return Known(_guess(cluster), "nothing is measured: 'profile' does that, --cluster FILE says it")
    machines = _read(config.cluster_file)
    if machines.device.type != cluster.device_type:
        raise UsageError(
            f"--cluster {config.cluster_file} has {machines.device.type.upper()} devices, the run is on "
            f"{cluster.device_type.upper()} devices: give --device {machines.device.type}, or another file"
        )
    if (machines.nodes, machines.devices_per_node) != (cluster.nodes, cluster.devices_per_node):
        sharing = machines.sharing
        if cluster.logical and sharing > 1:  # as many cores, other ranks
            sharing = max(1.0, sharing * cluster.size / machines.cluster.size)
        machines = replace(machines, nodes=cluster.nodes, devices_per_node=cluster.devices_per_node, sharing=sharing)
    return Known(machines, config.cluster_file)


def cluster_of_file(config: Config) -> Optional[Cluster]:
    """Return the cluster of ``--cluster``, with what options say of its size; ``None`` without that option."""
    if config.cluster_file is None:
        return None
    found = _read(config.cluster_file).cluster
    nodes = config.nnodes if "nnodes" in config.given else None
    devices = config.nproc_per_node if "nproc_per_node" in config.given else None
    return replace(found, nodes=nodes or found.nodes, devices_per_node=devices or found.devices_per_node)


def device_room(config: Config, cluster: Cluster) -> float:
    """Return the bytes that one rank may take."""
    return rank_room(known_machines(config, cluster).machines)


def rank_room(machines: Machines) -> float:
    """Return the bytes that one rank may take on these machines."""
    device = machines.device
    return device.memory if device.type == "cpu" else device.memory * _OF_GPU / machines.sharing


def _read(path: str) -> Machines:
    return _read_once(path, os.stat(path).st_mtime_ns if os.path.exists(path) else 0)


@lru_cache(maxsize=8)
def _read_once(path: str, changed: int) -> Machines:
    return read_machines(path)


def _guess(cluster: Cluster) -> Machines:
    between = _LOOPBACK if cluster.logical else _ETHERNET
    if cluster.device_type == "cpu":
        device, sharing = _cpu(cluster)
        size = cluster.nodes, cluster.devices_per_node
        return Machines("this machine", *size, device, _LOOPBACK, between, sharing=sharing, calibration=CPU_USUAL)
    return Machines(
        "this machine",
        cluster.nodes,
        cluster.devices_per_node,
        _gpu(),
        _PCIE,
        between,
        calibration=default_calibration(),
    )


def _cpu(cluster: Cluster) -> Tuple[Device, float]:
    """A rank's core, and how many ranks share one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = cluster.size if cluster.logical else cluster.devices_per_node
    room = find_room()
    memory = (room.free + room.swap if room else _MEMORY * here) / here
    if not cluster.logical and cluster.nodes > 1:
        # Each node plans by itself, and what is free there differs by a little: they must come to the same.
        memory = 2.0 ** math.floor(math.log2(max(memory, 1.0)))
    device = Device("CPU core", "cpu", memory, _MACHINE_BANDWIDTH / min(cores, here), {"float32": _CORE_PEAK})
    return device, max(1.0, here / cores)


def _gpu() -> Device:
    found = find_gpus().devices
    name, memory = (found[0].name, float(found[0].memory)) if found else ("V100-SXM2-16GB", 16e9)
    peak = {"float32": gpu_peak(name, False) or 15e12, "float16": gpu_peak(name, True) or 60e12}
    return Device(name, "cuda", memory, gpu_bandwidth(name) or 6e11, peak)
