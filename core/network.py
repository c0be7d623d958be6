"""The network cards of this host, and which of them a rank is reached by (``--interface``).

What the engine does (docs/oneflow-notes.md): rank 0 is reached at ``MASTER_ADDR``, every other rank at the address from
which its first connection came to rank 0, and all listen on every card. So the card is chosen by the routes to
``MASTER_ADDR``. The engine's own setting for another choice, ``BootstrapConf.host``, has no variable;
:func:`announce` sets it. IPv4 only, as the engine.
"""
from __future__ import annotations

import importlib.util
import os
import socket
import struct
import sys
from typing import Any, Dict, Mapping, Optional

from pipeloom.core.errors import UsageError, did_you_mean

#: Set for a rank: the address that it tells the others to reach it by.
ADDRESS = "PIPELOOM_ADDRESS"

_SIOCGIFADDR = 0x8915
_ENV_MODULE = "oneflow.framework.env_util"


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
    if found.get(name) is None:
        what = f"no network card '{name}' here{did_you_mean(name, found)}" if name not in found else f"the card '{name}' has no IPv4 address"
        there = ", ".join(f"{card} {address or '(no address)'}" for card, address in found.items())
        raise UsageError(f"--interface {name}: {what}; there are: {there}")
    return found[name]


def rank_environment(interface: Optional[str]) -> Dict[str, str]:
    """The variables by which a rank's traffic takes the card ``interface``; none where none is asked for."""
    if interface is None:
        return {}
    # NCCL takes a prefix; with = in front, the name as it is. Gloo and UCX are not in the engine.
    return {ADDRESS: card_address(interface), "NCCL_SOCKET_IFNAME": f"={interface}"}


def announce(environment: Mapping[str, str] = os.environ) -> None:
    """Let the engine, which is imported next, tell the other ranks the address in ``PIPELOOM_ADDRESS``, if there is one.

    The engine connects its ranks while it is imported, and between the reading of MASTER_ADDR and that there is no
    call into which an address could go; so the module that reads it is changed as it is loaded.
    """
    address = environment.get(ADDRESS)
    if address and int(environment.get("WORLD_SIZE", "1")) > 1:
        sys.meta_path.insert(0, _Announcer(address))


class _Announcer:
    """Finds one module, once, and adds the address to what it makes of the environment."""

    def __init__(self, address: str) -> None:
        self.address = address

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _ENV_MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader, address = spec.loader, self.address
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            complete = module.CompleteEnvProto

            def with_address(proto: Any) -> None:
                complete(proto)
                proto.ctrl_bootstrap_conf.host = address

            module.CompleteEnvProto = with_address

        loader.exec_module = exec_module
        return spec
