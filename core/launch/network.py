"""The network cards of this host, and which of them a rank is reached by (``--interface``).

What the engine does (docs/oneflow-notes.md): rank 0 is reached at ``MASTER_ADDR``, every other rank at the address from
which its first connection came to rank 0, and all listen on every card. So the card is chosen by the routes to
``MASTER_ADDR``. For another choice a rank finds its address in ``PIPELOOM_ADDRESS``, and its executor tells the engine.
IPv4 only, as the engine.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from typing import Dict, List, Mapping, Optional

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.base.variables import ADDRESS

#: Variables, in any case, that send connections by way of a proxy or past it. gRPC, the engine's channel for control,
#: obeys the first five in lower case, for 127.0.0.1 too (its src/core/ext/filters/client_channel/http_proxy.cc).
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy", "all_proxy")

_SIOCGIFADDR = 0x8915
_LOOPBACK, _LOOPBACK_SECONDS = "127.0.0.1", 3.0


def cards() -> Dict[str, Optional[str]]:
    """The IPv4 address of each network card by its name; ``None`` for a card without one."""
    import fcntl

    found: Dict[str, Optional[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                found[name] = socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
            except OSError:
                found[name] = None
    return found


def card_address(name: str) -> str:
    """The address of the card ``name``. Raises ``UsageError``, with the cards that there are, if it has none."""
    found = cards()
    address = found.get(name)
    if address is None:
        what = (
            f"no network card '{name}' here{did_you_mean(name, found)}"
            if name not in found
            else f"the card '{name}' has no IPv4 address"
        )
        there = ", ".join(f"{card} {number or '(no address)'}" for card, number in found.items())
        raise UsageError(f"--interface {name}: {what}; there are: {there}")
    return address


def address_environment(interface: Optional[str], master_addr: Optional[str] = None) -> Dict[str, str]:
    """The variables by which the ranks of this machine are reached: at the card ``interface``, or where the name of
    node 0 needs it (:func:`hidden_address`). Raises ``UsageError`` as :func:`card_address` and :func:`hidden_address`
    do.
    """
    if interface is not None:
        # NCCL takes a prefix; with = in front, the name as it is.
        return {ADDRESS: card_address(interface), "NCCL_SOCKET_IFNAME": f"={interface}"}
    hidden = hidden_address(master_addr)
    return {ADDRESS: hidden} if hidden else {}


def check_address(address: str, option: str = "--master_addr") -> None:
    """Raise ``UsageError`` for an ``address`` that the engine cannot reach: one of IPv6, or a name that has no others.

    A name that is not known (yet) passes; whoever connects to it says so.
    """
    bare, _, port = address.rpartition(":")
    if port.isdecimal() and ":" not in bare and bare:
        raise UsageError(f"{option} {address}: the port is an option of its own: {option} {bare} --master_port {port}")
    inside = re.fullmatch(r"\[(.*)\](?::\d*)?", address)
    try:
        numbers = ipaddress.ip_address((inside.group(1) if inside else address).partition("%")[0])
        what = "is an IPv6 address" if numbers.version == 6 else ""
    except ValueError:
        own = _addresses(address, socket.AF_INET6) if not _addresses(address, socket.AF_INET) else []
        what = f"has IPv6 addresses alone ({', '.join(own)})" if own else ""
    if what:
        raise UsageError(
            f"{option} {address} {what}, and OneFlow 0.9.0 connects over IPv4 alone: give an IPv4 address of node 0"
        )


def _addresses(name: str, family: int) -> List[str]:
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, family)})
    except (OSError, UnicodeError):
        return []


def hidden_address(master_addr: Optional[str]) -> Optional[str]:
    """This machine's address on its network, if here alone ``master_addr`` is a name for 127.x; else ``None``.

    Many a Linux has its own name in /etc/hosts as 127.0.1.1. Ranks on node 0 would meet rank 0 by that address, be
    known by it, and be looked for by ranks of other machines at those machines themselves: a hang. Numbers and
    ``localhost`` are taken at their word. Raises ``UsageError`` where several cards could be meant.
    """
    if master_addr is None or master_addr == "localhost" or master_addr.replace(".", "").isdigit():
        return None
    meant = _addresses(master_addr, socket.AF_INET)
    if not meant:
        return None  # whoever connects to it says so
    if not all(address.startswith("127.") for address in meant):
        return None
    there = {card: address for card, address in cards().items() if address and not address.startswith("127.")}
    if len(there) != 1:
        known = ", ".join(f"{card} {address}" for card, address in there.items()) or "none has an address"
        raise UsageError(
            f"--master_addr {master_addr} is {', '.join(meant)} on this machine, where no other finds it: "
            f"give it as a number, or name the card by --interface ({known})"
        )
    return next(iter(there.values()))


def without_proxies(environment: Mapping[str, str]) -> Dict[str, str]:
    """``environment`` for a rank: ranks talk to each other alone, and by way of a proxy they would wait for ever."""
    return {name: value for name, value in environment.items() if name.lower() not in PROXIES}


def forget_proxies() -> None:
    """The same for this process, of which the engine has not been imported yet."""
    for name in set(os.environ) - set(without_proxies(os.environ)):
        del os.environ[name]


def local_fault(ranks: int = 2) -> Optional[str]:
    """What keeps ``ranks`` of this machine from meeting, in one line; ``None`` if nothing does.

    Even one rank looks up ``localhost``, to find a free port; several connect to each other by 127.0.0.1.
    """
    try:
        socket.getaddrinfo("localhost", None, socket.AF_INET)
    except OSError as error:
        return f"'localhost' is unknown here ({error.strerror or error}): put '{_LOOPBACK} localhost' into /etc/hosts"
    return _loopback_fault() if ranks > 1 else None


def _loopback_fault() -> Optional[str]:
    try:
        with socket.socket() as server:
            server.settimeout(_LOOPBACK_SECONDS)
            server.bind((_LOOPBACK, 0))
            server.listen(1)
            # The kernel answers for whoever listens: nobody has to accept at the same time.
            with socket.create_connection(server.getsockname(), timeout=_LOOPBACK_SECONDS) as client, server.accept()[
                0
            ] as connection:
                connection.settimeout(_LOOPBACK_SECONDS)
                client.sendall(b"hello")
                received = connection.recv(5)
    except OSError as error:
        why = error.strerror or error
        return (
            f"no connection by {_LOOPBACK} ({why}): ip link set lo up, and look at the firewall "
            "and for free ports (sysctl net.ipv4.ip_local_port_range)"
        )
    return None if received == b"hello" else f"a connection by {_LOOPBACK} lost what was sent: look at the firewall"
