"""Cluster and mesh: how many devices there are, and how the kinds of parallelism share them."""
from __future__ import annotations

from dataclasses import dataclass

from pipeloom.core.errors import UsageError


@dataclass(frozen=True)
class Cluster:
    """``nodes x devices_per_node`` devices; ``rank = node * devices_per_node + local rank``.

    ``logical``: the nodes stand for machines but all run on this host.
    """

    nodes: int
    devices_per_node: int
    device_type: str = "cpu"
    logical: bool = True

    @property
    def size(self) -> int:
        return self.nodes * self.devices_per_node

    def node_of(self, rank: int) -> int:
        return rank // self.devices_per_node

    def __str__(self) -> str:
        kind = "logical node" if self.logical and self.nodes > 1 else "node"
        return (f"{self.nodes} {kind}{'s' * (self.nodes != 1)} x {self.devices_per_node} "
                f"{self.device_type.upper()} device{'s' * (self.devices_per_node != 1)}")


@dataclass(frozen=True)
class Mesh:
    """Sizes of the three parallel axes; their product is the number of ranks."""

    pipeline: int
    data: int
    tensor: int = 1

    @property
    def size(self) -> int:
        return self.pipeline * self.data * self.tensor

    def check(self, cluster: Cluster) -> None:
        """Raises ``UsageError`` when the mesh does not use exactly the devices of ``cluster``."""
        if self.size != cluster.size:
            raise UsageError(f"the mesh pipeline {self.pipeline} x data {self.data} x tensor {self.tensor} uses "
                             f"{self.size} devices, the cluster has {cluster.size} ({cluster})")


def mesh_from_splits(cluster: Cluster, nums_split: int) -> Mesh:
    """The mesh with ``nums_split`` pipeline stages, data parallel over the rest.

    Raises ``UsageError`` when the devices cannot be dealt out evenly.
    """
    if cluster.size % nums_split:
        divisors = [n for n in range(1, cluster.size + 1) if cluster.size % n == 0]
        raise UsageError(f"--nums_split {nums_split} does not divide the {cluster.size} devices of {cluster}: "
                         f"choose one of {', '.join(map(str, divisors))}")
    return Mesh(pipeline=nums_split, data=cluster.size // nums_split)
