"""Starts a job, and starts it again after a fault, as often as the user allows."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Optional, Tuple

from pipeloom.core.base.errors import PipeloomError, RunError, UsageError
from pipeloom.core.launch.control.coordinator import Coordinator
from pipeloom.core.launch.control.follower import Follower
from pipeloom.core.launch.control.guest import Refused, join
from pipeloom.core.launch.control.hub import Hub, PortTaken
from pipeloom.core.launch.control.local_ranks import LocalRanks
from pipeloom.core.launch.control.nodes import NodesSpec
from pipeloom.core.launch.control.signals import Signals, Stopped
from pipeloom.core.launch.control.verdict import Verdict, print_line
from pipeloom.core.launch.ports import free_port, is_own_address, refuse_taken_port

_PORT_SECONDS = 60.0
_DOUBLE_SECONDS = 2.0


def supervise(spec: Any, signals: Signals) -> int:
    """Run the job of ``spec`` (a ``LaunchSpec``) as the only node or as node 0; returns the exit code."""
    if spec.nodes is None:
        return _Supervisor(spec, signals, None).run()
    if not is_own_address(spec.nodes.address):
        print_line(
            f"note: --master_addr {spec.nodes.address} should be the address of node 0, and is none of this host"
        )
    hub = _open_hub(spec.nodes, signals)
    try:
        _gather_first(hub, signals)
        return _Supervisor(spec, signals, hub).run()
    finally:
        hub.close()


def follow(spec: Any, signals: Signals) -> int:
    """Run the part of the job that is on this node, which is not node 0; returns the exit code."""
    starts = 0
    while True:
        peer = join(spec.nodes, signals)
        _say_that_nodes_watch(spec.nodes)
        try:
            while True:
                starts += 1
                outcome = Follower(spec, signals, peer).run()
                if not outcome.again:
                    break
                peer.send({"ready": True})
        finally:
            peer.close(politely=peer.lost() is None)
        if not outcome.node_0_gone or starts > spec.max_restarts:
            return outcome.code


def _open_hub(nodes: NodesSpec, signals: Signals) -> Hub:
    try:
        return Hub(nodes)
    except PortTaken:
        # Another launcher that is node 0? Then it shall know, and says so to both.
        try:
            join(dataclasses.replace(nodes, node_timeout=_DOUBLE_SECONDS), signals).close()
        except Refused:
            raise
        except UsageError:
            pass
        raise


def _gather_first(hub: Hub, signals: Signals) -> None:
    try:
        lines = hub.gather(signals)
    except Stopped as stopped:
        hub.refuse(f"node 0 was stopped by {stopped}")
        raise
    if lines:
        hub.refuse(lines[0])
        raise UsageError(lines[0])
    hub.order({"welcome": True})
    _say_that_nodes_watch(hub.spec)


def _say_that_nodes_watch(nodes: NodesSpec) -> None:
    print_line(f"nodes watch each other: a node that is silent for {nodes.heartbeat_timeout:g} s ends the job")


class _Supervisor:
    """The starts of a job, one after another."""

    def __init__(self, spec: Any, signals: Signals, hub: Optional[Hub]):
        self.spec, self.signals, self.hub = spec, signals, hub
        self.port, self.resume = spec.master_port, spec.resume

    def run(self) -> int:
        try:
            failed_at = None
            for number in range(1, self.spec.max_restarts + 2):
                if number > 1:
                    self.make_ready()
                verdict = self.start()
                verdict.show(0)
                line, again = self.decide(verdict, number, failed_at)
                if line:
                    print_line(line)
                self.order_over(verdict, again, line)
                if not again:
                    break
                failed_at = verdict.step
            self.spec.report(verdict.reason)
            return verdict.code
        except (PipeloomError, Stopped) as error:
            self.order_over(Verdict(error.exit_code, str(error)))
            raise

    def start(self) -> Verdict:
        ranks = LocalRanks(self.spec, self.port, self.resume)
        try:
            return Coordinator(self.spec, self.signals, ranks, self.hub, self.port, self.resume).run()
        finally:
            ranks.clear()

    def decide(self, verdict: Verdict, number: int, failed_at: Optional[int]) -> Tuple[str, bool]:
        """What to say about another start after the ``number``-th, and whether there is one."""
        if not verdict.fault or self.signals.count:
            return "", False
        if verdict.step == failed_at:
            where = f"at step {verdict.step}" if verdict.step else "before the first step"
            return f"failed again {where}: not restarted", False
        if number > self.spec.max_restarts:
            return "", False
        path = self.spec.choose_resume() if self.spec.choose_resume is not None else None
        self.resume = str(path or "")
        return f"restart {number} of {self.spec.max_restarts}: from {path.name if path else 'the beginning'}", True

    def make_ready(self) -> None:
        """Wait for what a new start needs: the other nodes, and the port."""
        if self.hub is not None:
            lines = self.hub.gather(self.signals, again=True)
            if lines:
                raise RunError(lines[0])
            self.hub.order({"welcome": True})
        if self.spec.port_is_free_to_choose:
            self.port = free_port()
            return
        deadline = time.monotonic() + _PORT_SECONDS
        while True:
            self.signals.check()
            try:
                return refuse_taken_port(self.port)
            except UsageError as error:
                if time.monotonic() > deadline:
                    raise RunError(f"no restart: {error}") from None
            time.sleep(0.1)

    def order_over(self, verdict: Verdict, again: bool = False, line: str = "") -> None:
        """Tell all nodes how it ended; those that are still on their way in are refused."""
        if self.hub is not None:
            self.hub.order({"over": verdict.to_message(), "again": again, "further": [line] if line else []})
            if not again:
                self.hub.refuse(verdict.line or "the job of node 0 is over")
