"""The machines that a cost is reckoned for: devices, the networks between them, and how near to their data sheets they
come. Read from ``cluster.yaml`` (``core/planning/cost/cluster_file.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Dict, Mapping, Optional

from pipeloom.core.contract.topology import Cluster


@dataclass(frozen=True)
class Device:
    """State what one device is: bytes of ``memory``, bytes a second of ``memory_bandwidth``, and ``peak``, the
    floating-point operations a second of a product by precision (``"float32"``, ``"float16"``).

    ``type``: as of ``--device``, ``"cpu"`` or ``"cuda"``.
    """

    name: str
    type: str
    memory: float
    memory_bandwidth: float
    peak: Mapping[str, float]

    def peak_of(self, half_precision: bool) -> float:
        """Return the peak of products in half precision, or in float32."""
        return self.peak.get("float16" if half_precision else "float32") or max(self.peak.values())


@dataclass(frozen=True)
class Network:
    """State a network by its bytes a second in one direction and the seconds that any message takes.

    ``bandwidth``: inside a node that of one device, between nodes that of a whole node. ``groups``: that of a device in
    a group of so many, where devices are joined one by one and not by a switch: two V100 of eight share one NVLink of
    six, and a ring over all of them takes every one.
    """

    bandwidth: float
    latency: float
    groups: Mapping[int, float] = field(default_factory=dict)

    def among(self, ranks: int) -> float:
        """Return the bandwidth of a device in a group of ``ranks``; between the sizes that are known, by a line."""
        if not self.groups:
            return self.bandwidth
        known = sorted(self.groups.items())
        for (size, rate), (next_size, next_rate) in zip(known, known[1:]):
            if size <= ranks <= next_size:
                return rate + (next_rate - rate) * (ranks - size) / (next_size - size)
        return known[0][1] if ranks < known[0][0] else known[-1][1]


@dataclass(frozen=True)
class Calibration:
    """State how near to its data sheet a machine comes; what ``fit`` finds from measured steps.

    ``efficiency``: the share of the peak that large products reach. ``launch``: the least seconds that a layer takes
    for one pass over one micro-batch, however small. ``head_launch``: the same for all that is no layer, in a
    micro-batch. ``traffic``: how often the memory moves what a layer keeps. ``sync``: seconds of each all-reduce
    inside a layer for each further rank of the group. ``update``: how often an update moves a parameter's 4 bytes;
    ``accumulate``: the same for adding the gradients of a micro-batch, where a step has several.
    ``inside``, ``between``: the share of the networks' bandwidths that is reached; ``sends``: that of messages from
    one rank to another, 0 where it is the same. ``overlap``: the share of the
    exchange of gradients that the backward pass hides. ``step``: seconds that a step takes besides.
    """

    efficiency: float = 0.5
    launch: float = 0.0
    head_launch: float = 0.0
    traffic: float = 2.0
    sync: float = 0.0
    update: float = 8.0
    accumulate: float = 0.0
    inside: float = 0.8
    between: float = 0.8
    sends: float = 0.0
    overlap: float = 0.0
    step: float = 0.0

    @classmethod
    def names(cls) -> Dict[str, float]:
        """Return the names with their values where nothing is known."""
        return {one.name: float(one.default) for one in fields(cls)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class BlockTime:
    """State what was measured of a kind of block (``"layer"``, or a block's name) at one size of micro-batch: seconds
    of its forward and of its backward pass, for a model whose block has ``flops`` in the forward pass."""

    kind: str
    tokens: float
    flops: float
    forward: float
    backward: float


@dataclass(frozen=True)
class Machines:
    """State a cluster: ``nodes`` of ``devices_per_node`` equal devices.

    ``inside`` joins the devices of a node, ``between`` the nodes. Two networks between nodes are possible: then
    ``hidden`` carries hidden states, ``gradients`` what is all-reduced, each else by ``between``. ``sharing``: how many
    ranks of a node share one card or core (1: each has its own). ``measured``: times of blocks, where there are any.
    """

    name: str
    nodes: int
    devices_per_node: int
    device: Device
    inside: Network
    between: Network
    hidden: Optional[Network] = None
    gradients: Optional[Network] = None
    sharing: float = 1.0
    calibration: Calibration = Calibration()
    measured: tuple = field(default=())

    @property
    def cluster(self) -> Cluster:
        """Return its shape as plans have it."""
        return Cluster(self.nodes, self.devices_per_node, self.device.type, logical=False)
