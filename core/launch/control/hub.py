"""Node 0's side of the connections between launchers: gathers the others, receives their events, gives orders."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.launch.control.channel import Channel
from pipeloom.core.launch.control.nodes import NodesSpec, Peer, is_hello, misfit, twice
from pipeloom.core.launch.control.signals import Signals, Stopped
from pipeloom.core.launch.control.verdict import print_line

_POLL_SECONDS = 0.02
#: A second launcher with the same number comes at about the same time as the first.
_SECOND_LAUNCHER_SECONDS = 0.5
#: After a misfit the others get so long to come and hear of it.
_MISFIT_SECONDS = 2.0
_HELLO_SECONDS = 10.0
_MOST_STRANGERS = 64


class PortTaken(UsageError):
    """Somebody listens where node 0 should; it may be another launcher that was started as node 0."""


class Hub:
    """The connections to all other launchers; listens from the moment of construction.

    Raises ``PortTaken`` or ``UsageError`` when the port cannot be had.
    """

    def __init__(self, spec: NodesSpec):
        self.spec, self.mine = spec, spec.hello()
        self.peers: Dict[int, Peer] = {}
        self._fresh: Set[int] = set()  # have come, and started nothing yet
        self._strangers: List[Tuple[Channel, float]] = []  # connected, and not yet introduced
        self._late: List[Peer] = []
        self._misfits: List[str] = []
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._server.bind(("", spec.port))
            self._server.listen(_MOST_STRANGERS)
        except OSError as error:
            self._server.close()
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    f"port {spec.port}, where the launchers of the nodes meet (--master_port + 1), is taken: "
                    "choose another --master_port"
                ) from None
            raise UsageError(
                f"port {spec.port} cannot be used ({error.strerror}): choose another --master_port"
            ) from None
        self._server.setblocking(False)

    def gather(self, signals: Signals, again: bool = False) -> List[str]:
        """Wait until all nodes are there and have cleared their ranks; returns a line for each thing that does not fit.

        ``again``: for another start of the same job; then those that are there need not come anew.
        Raises ``Stopped`` after a signal. The others get no answer by this: see ``refuse`` and ``order``.
        """
        seconds, ready = self.spec.node_timeout, set()
        deadline, complete_at = time.monotonic() + seconds, None
        if not again:
            print_line(f"waiting up to {seconds:g} s for the other nodes on port {self.spec.port}")
        elif len(self.peers) < self.spec.nnodes - 1:
            print_line(f"waiting up to {seconds:g} s for the missing nodes to come back")
        while True:
            signals.check()
            self._admit(during_run=False)
            ready |= self._fresh
            self._fresh = set()
            for node, peer in list(self.peers.items()):
                for message in peer.receive():
                    if "ready" in message:
                        ready.add(node)
                    for event in message.get("events", ()):
                        if event["event"] in ("signal", "killed"):
                            raise Stopped(event["number"])
                if peer.lost():
                    self.drop(node)
                    ready.discard(node)
            now = time.monotonic()
            if self._misfits:
                deadline = min(deadline, now + _MISFIT_SECONDS)
            if ready >= set(range(1, self.spec.nnodes)):
                complete_at = complete_at or now + (0 if again else _SECOND_LAUNCHER_SECONDS)
                if now >= complete_at:
                    return self._misfits
            else:
                complete_at = None
            if now > deadline:
                missing = [node for node in range(1, self.spec.nnodes) if node not in ready]
                return self._misfits or [
                    f"node {node} of {self.spec.nnodes} did not come {'back ' * again}within {seconds:g} s: is it "
                    f"running, with --node_rank {node} and the same --master_addr and --master_port?"
                    for node in missing
                ]
            time.sleep(_POLL_SECONDS)

    def events(self) -> List[Mapping[str, Any]]:
        """Return what the other nodes have reported since the last call; each event names its ``node``."""
        self._admit(during_run=True)
        return [
            {**event, "node": node}
            for node, peer in self.peers.items()
            for message in peer.receive()
            for event in message.get("events", ())
        ]

    def lost(self) -> Optional[Tuple[int, str]]:
        """Return a node that has gone, and how that shows."""
        return next(((node, why) for node, peer in self.peers.items() for why in [peer.lost()] if why), None)

    def is_quiet(self) -> bool:
        return any(peer.is_quiet() for peer in self.peers.values())

    def order(self, message: Mapping[str, Any]) -> None:
        for peer in self.peers.values():
            peer.send(message)

    def refuse(self, line: str) -> None:
        """Send all that have come why there will be no job."""
        for peer in [*self.peers.values(), *self._late]:
            peer.send({"refuse": line})

    def drop(self, node: int) -> None:
        self.peers.pop(node).close(politely=False)

    def close(self) -> None:
        self._server.close()
        for channel, _ in self._strangers:
            channel.close()
        for peer in [*self.peers.values(), *self._late]:
            peer.close()

    def _admit(self, during_run: bool) -> None:
        while True:
            try:
                connection = self._server.accept()[0]
            except OSError:
                break
            self._strangers.append((Channel(connection), time.monotonic() + _HELLO_SECONDS))
        for peer in list(self._late):
            peer.receive()
            if peer.lost():
                peer.close(politely=False)
                self._late.remove(peer)
        waiting = []
        for channel, until in self._strangers[-_MOST_STRANGERS:]:
            messages = channel.receive()
            if messages and is_hello(messages[0]):
                self._introduce(channel, messages[0], during_run)
            elif messages or channel.closed or time.monotonic() > until:
                channel.close()
            else:
                waiting.append((channel, until))
        for channel, _ in self._strangers[:-_MOST_STRANGERS]:
            channel.close()
        self._strangers = waiting

    def _introduce(self, channel: Channel, hello: Mapping[str, Any], during_run: bool) -> None:
        node, peer = hello["node"], Peer(channel, self.spec.heartbeat_timeout, hello)
        peer.send({"received": True})
        line = misfit(self.mine, hello)
        if line is None and (node == 0 or node in self.peers):
            line = twice(node, hello["host"], self.peers[node].hello["host"] if node else self.mine["host"])
        if line is None and not during_run:
            self.peers[node] = peer
            self._fresh.add(node)
            return
        if during_run:  # the job goes on, whatever comes
            peer.send({"refuse": line or f"the job of node 0 has begun without this launcher of node {node}"})
        else:
            assert line is not None
            self._misfits.append(line)
            if node not in self.peers and 0 < node < self.spec.nnodes:
                self.peers[node] = peer
                self._fresh.add(node)
                return
        self._late.append(peer)
