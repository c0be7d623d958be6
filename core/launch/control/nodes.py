"""What the launchers of several nodes exchange, and how one notices that another has gone.

Node 0 decides, the others carry out. Node 0 listens on the port after the master port. A launcher begins with a *hello*
(who it is, and what must be the same everywhere); then both sides send a beat every second, node k the events of its
ranks (``{"events": [...]}``) and node 0 orders: ``start``, ``to_ranks`` (a message for the ranks), ``print``,
``terminate``, ``over``.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from pipeloom import __version__
from pipeloom.core.launch.control.channel import Channel

BEAT_SECONDS = 1.0


@dataclass(frozen=True)
class NodesSpec:
    """One of several nodes, each with a launcher of its own. Times are in seconds.

    Node 0 is at ``address`` and listens for the launchers on ``port``. ``node_timeout`` bounds the wait for the others
    before anything starts (and for one that has gone and shall come back), ``heartbeat_timeout`` the silence of a node.
    ``identity``: subject ("code", "data", ...) -> short hash of what must be the same on all nodes.
    """

    node_rank: int
    nnodes: int
    nproc_per_node: int
    address: str
    port: int
    node_timeout: float = 60.0
    heartbeat_timeout: float = 15.0
    identity: Mapping[str, str] = field(default_factory=dict)

    def hello(self) -> Dict[str, Any]:
        return {
            "pipeloom": __version__,
            "node": self.node_rank,
            "nnodes": self.nnodes,
            "nproc_per_node": self.nproc_per_node,
            "world_size": self.nnodes * self.nproc_per_node,
            "identity": dict(self.identity),
            "host": socket.gethostname(),
        }


def is_hello(message: Mapping[str, Any]) -> bool:
    """Return whether a launcher of ours has sent ``message``: anything may connect to a port."""
    kinds = {
        "pipeloom": str,
        "node": int,
        "nnodes": int,
        "nproc_per_node": int,
        "world_size": int,
        "identity": dict,
        "host": str,
    }
    return all(isinstance(message.get(name), kind) for name, kind in kinds.items())


def misfit(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Optional[str]:
    """Return one line that says how the hello of another node does not fit to that of node 0, or ``None``."""
    node = theirs["node"]
    if theirs["pipeloom"] != mine["pipeloom"]:
        return (
            f"node {node} runs pipeloom {theirs['pipeloom']}, node 0 runs {mine['pipeloom']}: "
            "install the same on all nodes"
        )
    for name in ("nnodes", "nproc_per_node"):
        if theirs[name] != mine[name]:
            return (
                f"node {node} was started with --{name} {theirs[name]}, node 0 with --{name} {mine[name]}: "
                "give all nodes the same"
            )
    if not 0 <= node < mine["nnodes"]:
        return (
            f"a launcher on {theirs['host']} was started with --node_rank {node}: nodes are numbered 0 to "
            f"{mine['nnodes'] - 1}"
        )
    ours, others = mine["identity"], theirs["identity"]
    differing = [subject for subject in {**ours, **others} if ours.get(subject) != others.get(subject)]
    if differing:
        found = "; ".join(
            f"{subject}: {others.get(subject, 'none')}, on node 0 {ours.get(subject, 'none')}" for subject in differing
        )
        return f"node {node} has other {' and '.join(differing)} than node 0 ({found}): make them the same on all nodes"
    return None


def twice(node: int, host: str, other_host: str) -> str:
    where = f"both on {host}" if host == other_host else f"on {other_host} and {host}"
    return f"two launchers were started with --node_rank {node} ({where}): give each node its own number"


class Peer:
    """Another launcher, over a channel: sends beats from a thread of its own, and notices when none come.

    The thread keeps the beats going while this launcher is busy, for instance with reading a checkpoint.
    """

    def __init__(self, channel: Channel, silence: float, hello: Optional[Mapping[str, Any]] = None):
        self.hello = hello or {}
        self._channel, self._silence = channel, silence
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="beats to a node", daemon=True)
        self._pulse.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._channel.send({"beat": True})

    def send(self, message: Mapping[str, Any]) -> None:
        self._channel.send(message)

    def receive(self) -> List[Dict[str, Any]]:
        messages = self._channel.receive()
        if messages:
            self._heard = time.monotonic()
        return [message for message in messages if "beat" not in message]

    def is_quiet(self) -> bool:
        """Return whether beats are missing, though not yet for so long that it counts as gone."""
        return time.monotonic() - self._heard > 2.5 * BEAT_SECONDS

    def lost(self) -> Optional[str]:
        """Return why the other launcher counts as gone, or ``None``; called right after ``receive``."""
        if self._channel.closed:
            return "its launcher has closed the connection"
        if time.monotonic() - self._heard > self._silence:
            return f"its launcher has been silent for {self._silence:g} s"
        return None

    def close(self, politely: bool = True) -> None:
        self._over.set()
        self._pulse.join()
        if politely:
            self._channel.finish()
        else:
            self._channel.close()
