"""One start of a job on a node other than 0: carries out the orders of node 0, and reports to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional

from pipeloom.core.base.errors import PipeloomError, RunError
from pipeloom.core.launch.control.local_ranks import LocalRanks
from pipeloom.core.launch.control.nodes import Peer
from pipeloom.core.launch.control.signals import Signals, signal_name
from pipeloom.core.launch.control.verdict import Verdict, fail, print_line

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Outcome:
    """``again``: the job starts anew; ``node_0_gone``: for that, node 0 must come back first."""

    code: int
    again: bool = False
    node_0_gone: bool = False


class Follower:
    """Waits for the order to start; ends by an order of node 0, or when that is no longer there (``run``)."""

    def __init__(self, spec: Any, signals: Signals, peer: Peer):
        self.spec, self.signals, self.peer = spec, signals, peer
        self.ranks: Optional[LocalRanks] = None
        self._reported = 0  # signals that node 0 knows of

    def run(self) -> Outcome:
        try:
            while True:
                outcome = self.listen() or self.report() or self.watch()
                if outcome is not None:
                    return outcome
                time.sleep(_POLL_SECONDS)
        finally:
            self.clear()

    def listen(self) -> Optional[Outcome]:
        """Carry out the orders that have come."""
        for message in self.peer.receive():
            if "start" in message:
                self.start(message["start"]["resume"])
            elif "to_ranks" in message and self.ranks is not None:
                self.ranks.send(message["to_ranks"])
            elif "stacks" in message and self.ranks is not None:
                self.ranks.ask_for_stacks()
            elif "terminate" in message and self.ranks is not None:
                self.ranks.terminate()
            elif "print" in message:
                print_line(message["print"])
            elif "over" in message:
                verdict = Verdict.from_message(message["over"])
                self.clear()
                verdict.show(self.spec.nodes.node_rank)
                for line in message["further"]:
                    print_line(line)
                return Outcome(verdict.code, again=message["again"])
        return None

    def start(self, resume: str) -> None:
        self.ranks = LocalRanks(self.spec, self.spec.master_port, resume)
        try:
            self.ranks.start(self.spec.ranks)
        except PipeloomError as error:  # all nodes end with it, this one too
            self.send([{"event": "failed", "code": error.exit_code, "line": str(error)}])

    def report(self) -> Optional[Outcome]:
        """Send node 0 the events of this node."""
        events: List[Mapping[str, Any]] = list(self.ranks.poll()) if self.ranks is not None else []
        if self.signals.count > 1:
            self.send([{"event": "killed", "number": self.signals.number}])
            return Outcome(128 + self.signals.number)
        if self.signals.count > self._reported:
            self._reported = self.signals.count
            events.append({"event": "signal", "number": self.signals.number})
        if events:
            self.send(events)
        return None

    def watch(self) -> Optional[Outcome]:
        why = self.peer.lost()
        if why is None:
            return None
        if self.signals.count:
            print_line(f"{signal_name(self.signals.number)}: node 0 is gone: all ranks here are killed")
            return Outcome(128 + self.signals.number)
        fail(f"node 0 is gone: {why}")
        return Outcome(RunError.exit_code, node_0_gone=True)

    def send(self, events: List[Mapping[str, Any]]) -> None:
        self.peer.send({"events": events})

    def clear(self) -> None:
        if self.ranks is not None:
            self.ranks.clear()
            self.ranks = None
