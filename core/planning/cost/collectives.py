"""Seconds that messages take: from rank to rank, and around the groups that all-reduce."""

from __future__ import annotations

from pipeloom.core.planning.cost.geometry import GroupShape
from pipeloom.core.planning.cost.hardware import Machines, Network


def send_seconds(machines: Machines, amount: float, leaving: int) -> float:
    """Return the seconds that ``amount`` bytes take from a rank to its partner in the next stage.

    ``leaving``: how many ranks of a node do so at once over the network between nodes; 0 where both are on one node.
    """
    if not amount:
        return 0.0
    share = machines.calibration.sends
    if not leaving:
        rate = machines.inside.bandwidth * share if share else _inside(machines, 2)
        return amount / rate + machines.inside.latency
    network = machines.hidden or machines.between
    return amount * leaving / (network.bandwidth * share if share else _reached(machines, network)) + network.latency


def all_reduce_seconds(machines: Machines, amount: float, group: GroupShape, messages: int = 1) -> float:
    """Return the seconds to all-reduce ``amount`` bytes in each of several equal groups at once.

    The quicker of two ways, but on CPUs. A ring over n ranks (Patarasuk & Yuan 2009) passes ``2 (n - 1) / n`` of the
    amount along each edge in ``2 (n - 1)`` turns; its slowest edge is one between nodes, which ``group.sharing`` rings
    share. By levels (as NCCL's and Horovod's hierarchical all-reduce) i ranks of a node scatter and gather among
    themselves, and each of them goes around the k nodes with its own share. ``messages``: in how many pieces the amount
    is sent.
    """
    ranks, nodes = group.ranks, group.nodes
    if ranks == 1 or not amount:
        return 0.0
    here = ranks // nodes
    inside = _ring(amount, ranks, _inside(machines, max(2, here)), machines.inside.latency, messages)
    if nodes == 1:
        return inside
    network = machines.gradients or machines.between
    rate = _reached(machines, network)
    flat = _ring(amount * group.sharing, ranks, rate, network.latency, messages)
    if machines.device.type == "cpu":  # the engine goes around all ranks there; NCCL knows levels
        return max(flat, inside)
    levels = _ring(amount, here, _inside(machines, here), machines.inside.latency, messages)
    levels += _ring(amount * group.sharing, nodes, rate, network.latency, messages)
    return max(min(flat, levels), inside)


def _ring(amount: float, ranks: int, rate: float, latency: float, messages: int) -> float:
    return 2 * (ranks - 1) * (amount / ranks / rate + messages * latency) if ranks > 1 else 0.0


def _inside(machines: Machines, ranks: int) -> float:
    return machines.inside.among(ranks) * machines.calibration.inside


def _reached(machines: Machines, network: Network) -> float:
    return network.bandwidth * machines.calibration.between
