"""Checks of the network: cards, loopback, ports, names, proxies."""

from __future__ import annotations

import os
import socket
from typing import List, Mapping

from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.launch import network
from pipeloom.core.launch.ports import free_port
from pipeloom.plugins.commands.doctor.finding import Finding, bad, note, ok


def network_cards() -> Finding:
    found = network.cards()
    text = ", ".join(f"{name} {address or '(no IPv4 address)'}" for name, address in found.items())
    if not any(address and not address.startswith("127.") for address in found.values()):
        return note(f"{text or 'no card'}: nothing but this machine can be reached; enough for logical nodes")
    return ok(f"{text} (--interface chooses one)")


def loopback() -> Finding:
    """A connection of this machine to itself by 127.0.0.1, as the ranks of one machine have it."""
    fault = network.local_fault()
    return bad(fault) if fault else ok("127.0.0.1 answers")


def ports() -> Finding:
    try:
        port = free_port()
    except PipeloomError as error:
        return bad(f"{error}: end what listens there, or give --master_port")
    with socket.socket() as probe:  # the engine listens on one more, which the kernel chooses
        probe.bind(("", 0))
        other = probe.getsockname()[1]
    return ok(f"{port} and {other} are free; between machines --master_port (29500) and those above 32767 must be open")


def host_name() -> Finding:
    name = socket.gethostname()
    try:
        addresses: List[str] = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET)})
    except OSError as error:
        return note(
            f"{name} has no address ({error}): put it into /etc/hosts, or give --master_addr as a number "
            "when there are several machines"
        )
    if all(address.startswith("127.") for address in addresses):
        return note(
            f"{name} is {', '.join(addresses)} here: with several machines give --master_addr as a number "
            "(or --interface on this node), else ranks of this machine are looked for at that address"
        )
    return ok(f"{name} is {', '.join(addresses)}")


def proxy(environment: Mapping[str, str] = os.environ) -> Finding:
    """The engine's control messages are gRPC, which obeys these variables; so no rank gets them."""
    given = [
        name
        for name, value in environment.items()
        if value and name.lower() in network.PROXIES and not name.lower().startswith("no")
    ]
    if not given:
        return ok("none is set")
    names = f"{', '.join(given)} {'is' if len(given) == 1 else 'are'}"
    return note(
        f"{names} set: ranks start without, since they talk to each other alone; "
        "what a plugin needs from elsewhere it must fetch before they start"
    )
