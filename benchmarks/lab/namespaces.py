"""Two network namespaces joined by a veth pair: two nodes with one link, on one Linux machine.

Needs root and iproute2. Everything lives inside the two namespaces (the pair is made there), so nothing of
the machine's own network is touched, and deleting the namespaces deletes the link.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import List, Optional, Sequence

#: Inside the namespaces alone, so they cannot collide with addresses of this machine.
ADDRESSES = ("10.77.0.1", "10.77.0.2")
_PREFIX = "pipeloom-lab"
_INTERFACE = "link0"
_serial = itertools.count()


class LabError(Exception):
    """The laboratory could not be set up, or a job in it did not end as it should."""


@dataclass(frozen=True)
class Counters:
    """Bytes and packets that have crossed the link, Ethernet headers included; by direction."""

    bytes_0_to_1: int
    bytes_1_to_0: int
    packets_0_to_1: int
    packets_1_to_0: int

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))


class Link:
    """``with Link() as link:`` two namespaces, node 0 and node 1, joined until the block ends.

    ``rate`` limits both directions by a token bucket, in the words of tc (``"300mbit"``). Raises
    ``LabError`` when something is refused; nothing is left behind then either.
    """

    def __init__(self, rate: Optional[str] = None) -> None:
        self.rate = rate
        name = f"{_PREFIX}-{os.getpid()}-{next(_serial)}"
        self.namespaces = (f"{name}-0", f"{name}-1")
        self.addresses = ADDRESSES

    def __enter__(self) -> "Link":
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _make(self) -> None:
        first, second = self.namespaces
        _run("ip", "netns", "add", first)
        _run("ip", "netns", "add", second)
        for name in self.namespaces:
            # No neighbour discovery by IPv6: the counters are to see the job alone.
            _run(
                "ip", "netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 || true"
            )
        _run("ip", "-n", first, "link", "add", _INTERFACE, "type", "veth", "peer", "name", _INTERFACE, "netns", second)
        for name, address in zip(self.namespaces, self.addresses):
            _run("ip", "-n", name, "addr", "add", f"{address}/30", "dev", _INTERFACE)
            for interface in ("lo", _INTERFACE):
                _run("ip", "-n", name, "link", "set", interface, "up")
            if self.rate is not None:
                _run(
                    "tc",
                    "-n",
                    name,
                    "qdisc",
                    "add",
                    "dev",
                    _INTERFACE,
                    "root",
                    "tbf",
                    "rate",
                    self.rate,
                    "burst",
                    "256kb",
                    "latency",
                    "1000ms",
                )

    def remove(self) -> None:
        """Kill what runs in the namespaces and delete them; may be called twice."""
        for name in self.namespaces:
            _remove(name)

    def command(self, node: int, command: Sequence[str]) -> List[str]:
        """``command`` as it is run on ``node``; the process keeps its number, ip only executes it."""
        return ["ip", "netns", "exec", self.namespaces[node], *command]

    def counters(self) -> Counters:
        """What has crossed so far, as node 0's end of the link counts it."""
        answer = json.loads(_run("ip", "-n", self.namespaces[0], "-s", "-j", "link", "show", "dev", _INTERFACE))
        sent, received = answer[0]["stats64"]["tx"], answer[0]["stats64"]["rx"]
        return Counters(sent["bytes"], received["bytes"], sent["packets"], received["packets"])

    def settled(self, quiet: float = 0.5, noise: int = 2000, limit: float = 60.0) -> Counters:
        """The counters once less than ``noise`` bytes (a heartbeat) have crossed for ``quiet`` seconds."""
        last, since, end = self.counters(), time.monotonic(), time.monotonic() + limit
        while time.monotonic() - since < quiet:
            time.sleep(0.1)
            now = self.counters()
            moved = now - last
            if moved.bytes_0_to_1 + moved.bytes_1_to_0 > noise:
                last, since = now, time.monotonic()
            if time.monotonic() > end:
                raise LabError(f"the link did not come to rest within {limit:g} s")
        return self.counters()


def why_not(rate: bool = False) -> Optional[str]:
    """Why there can be no ``Link`` here, in one line; ``None`` where there can. ``rate``: with a limited rate."""
    if not sys.platform.startswith("linux"):
        return f"network namespaces are a thing of Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "network namespaces need root"
    for command in ("ip", "tc") if rate else ("ip",):
        if shutil.which(command) is None:
            return f"no command '{command}' (package iproute2)"
    try:
        with Link("100mbit" if rate else None) as link:
            link.counters()
    except LabError as error:
        return f"network namespaces are refused here: {error}"
    return None


def remove_leftovers() -> None:
    """Delete namespaces whose maker, a process of this name's number, was killed before it could."""
    if shutil.which("ip") is None:
        return
    listed = subprocess.run(
        ["ip", "netns", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout
    for name, maker in re.findall(rf"^({_PREFIX}-(\d+)-\d+-[01])\b", listed, re.M):
        if not os.path.exists(f"/proc/{maker}"):
            _remove(name)


def _remove(name: str) -> None:
    quiet = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for pid in subprocess.run(["ip", "netns", "pids", name], **quiet).stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", name], **quiet)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(command[:3])}: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise LabError(f"{' '.join(command)}: {said}")
    return done.stdout
