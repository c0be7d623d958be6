"""Cluster and mesh: how many devices there are, and how the kinds of parallelism share them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeloom.core.base.errors import UsageError


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
        return (
            f"{self.nodes} {kind}{'s' * (self.nodes != 1)} x {self.devices_per_node} "
            f"{self.device_type.upper()} device{'s' * (self.devices_per_node != 1)}"
        )


@dataclass(frozen=True)
class Mesh:
    """Sizes of the three parallel axes; their product is the number of ranks."""

    pipeline: int
    data: int
    tensor: int = 1

    @property
    def size(self) -> int:
        return self.pipeline * self.data * self.tensor

    def __str__(self) -> str:
        return f"pipeline {self.pipeline} x data {self.data}" + (f" x tensor {self.tensor}" if self.tensor > 1 else "")

    def check(self, cluster: Cluster) -> None:
        """Raises ``UsageError`` when the mesh does not use exactly the devices of ``cluster``."""
        if self.size != cluster.size:
            raise UsageError(
                f"the mesh pipeline {self.pipeline} x data {self.data} x tensor {self.tensor} uses "
                f"{self.size} devices, the cluster has {cluster.size} ({cluster})"
            )


def mesh_from_splits(cluster: Cluster, nums_split: int, tensor: int = 1) -> Mesh:
    """The mesh with ``nums_split`` pipeline stages of tensor groups of ``tensor``, data parallel over the rest.

    Raises ``UsageError`` when the devices cannot be dealt out evenly.
    """
    size = cluster.size
    if size % tensor:
        raise UsageError(
            f"--tensor_parallel {tensor} does not divide the {size} devices of {cluster}: "
            f"choose one of {_divisors(size)}"
        )
    if size // tensor % nums_split:
        whose = f"{size // tensor} tensor groups" if tensor > 1 else f"{size} devices"
        raise UsageError(
            f"--nums_split {nums_split} does not divide the {whose} of {cluster}: "
            f"choose one of {_divisors(size // tensor)}"
        )
    return Mesh(pipeline=nums_split, data=size // tensor // nums_split, tensor=tensor)


def _divisors(size: int) -> str:
    return ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
