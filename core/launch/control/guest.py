"""How another node's launcher joins node 0."""

from __future__ import annotations

import socket
import time
from typing import Optional

from pipeloom.core.base.errors import UsageError
from pipeloom.core.launch.control.channel import Channel
from pipeloom.core.launch.control.nodes import NodesSpec, Peer
from pipeloom.core.launch.control.signals import Signals
from pipeloom.core.launch.control.verdict import print_line

_POLL_SECONDS = 0.02
_RETRY_SECONDS = 0.2


class Refused(UsageError):
    """Node 0 refuses this launcher; the text is its own."""


def join(spec: NodesSpec, signals: Signals) -> Peer:
    """Introduce this launcher to node 0 and wait until all nodes are there; returns the connection to node 0.

    Raises ``Refused`` with what node 0 says does not fit, ``UsageError`` when no launcher answers within
    ``node_timeout``, ``Stopped`` after a signal.
    """
    where = f"{spec.address}:{spec.port}"
    print_line(f"waiting up to {spec.node_timeout:g} s for node 0 at {where}")
    deadline, strange = time.monotonic() + spec.node_timeout, False
    while True:
        signals.check()
        channel = _connect(spec.address, spec.port)
        if channel is not None:
            peer = Peer(channel, spec.heartbeat_timeout)
            peer.send(spec.hello())
            answered = _wait_for_welcome(peer, deadline, signals)
            if answered is None:
                return peer
            peer.close(politely=False)
            strange = not answered
        if time.monotonic() > deadline:
            if strange:
                raise UsageError(
                    f"what listens at {where} is no launcher of node 0: check --master_addr and --master_port"
                )
            raise UsageError(
                f"node 0 does not answer at {where} within {spec.node_timeout:g} s: is it running with --node_rank 0, "
                "is --master_addr its address, is the port (--master_port + 1) open?"
            )
        time.sleep(_RETRY_SECONDS)


def _wait_for_welcome(peer: Peer, deadline: float, signals: Signals) -> Optional[bool]:
    """Return ``None`` when welcome, else (the connection is lost) whether what answered was a launcher at all."""
    answered = False
    while True:
        try:
            signals.check()
            for message in peer.receive():
                answered = answered or "received" in message
                if "refuse" in message:
                    raise Refused(str(message["refuse"]))
                if "welcome" in message:
                    return None
        except BaseException:
            peer.close()
            raise
        # Node 0 bounds the wait for the others itself, and says how it ended.
        if peer.lost() or (not answered and time.monotonic() > deadline):
            return answered
        time.sleep(_POLL_SECONDS)


def _connect(address: str, port: int) -> Optional[Channel]:
    """Return a channel, or ``None`` while nobody listens. Raises ``UsageError`` when the address has no meaning."""
    try:
        return Channel(socket.create_connection((address, port), timeout=2.0))
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:  # the name server is not answering yet
            return None
        raise UsageError(f"master address '{address}' is unknown here: check --master_addr") from None
    except (OSError, OverflowError):
        return None
