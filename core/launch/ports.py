"""TCP ports: finding a free one, and seeing whether rank 0 listens on its own."""

from __future__ import annotations

import random
import socket

from pipeloom.core.base.errors import RunError, UsageError


def free_port() -> int:
    """A TCP port on which nothing listens, for a job whose ranks are all on this host.

    Taken below the kernel's range for outgoing connections, so that none of those grabs it before rank 0 does.
    Raises RunError if none is found.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 200):
        try:
            refuse_taken_port(port)
        except UsageError:
            continue
        return port
    raise RunError("no free TCP port between 20000 and 32000 on this host")


def port_listens(port: int) -> bool:
    """Whether some process of this host listens on TCP ``port``. Looks without connecting: that could disturb it."""
    ending = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as f:
                # Columns: slot, local address, remote address, state (0A is LISTEN), ...
                if any(c[1].endswith(ending) and c[3] == "0A" for c in map(str.split, f) if len(c) > 3):
                    return True
        except OSError:
            continue
    return False


def refuse_taken_port(port: int) -> None:
    """Raises UsageError, naming the option, if rank 0 could not listen on ``port`` of this host."""
    if port_listens(port):
        raise UsageError(f"port {port} is taken by another process: choose a free one with --master_port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "not a port"
            raise UsageError(f"port {port} cannot be used ({why}): choose another with --master_port") from None


def is_own_address(address: str) -> bool:
    """Whether ``address`` (a name or a number) is one of this host's own."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
        return True
    except OSError:
        return False
