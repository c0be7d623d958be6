"""One start of a job, as node 0 conducts it: hears of every rank, on whatever node, and decides how it ends."""

from __future__ import annotations

import signal
import time
from typing import Any, List, Mapping, Optional, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.launch.control.hub import Hub
from pipeloom.core.launch.control.local_ranks import LocalRanks
from pipeloom.core.launch.control.progress import Progress, name_ranks
from pipeloom.core.launch.control.signals import Signals, asked_to_stop, signal_name
from pipeloom.core.launch.control.verdict import Verdict, fail, fault, say
from pipeloom.core.launch.ports import port_listens, refuse_taken_port

_POLL_SECONDS = 0.02
#: After a rank's end that may be another's doing, the other may be a moment from its own, printing why.
_SETTLE_SECONDS = 0.5
_USAGE = UsageError.exit_code


class Coordinator:
    """``run`` starts the ranks of ``spec`` (those of other nodes through ``hub``) and returns how they ended.

    ``judge`` is the heart: it looks once and says whether the job is over.
    """

    def __init__(self, spec: Any, signals: Signals, ranks: LocalRanks, hub: Optional[Hub], port: int, resume: str):
        self.spec, self.signals, self.ranks, self.hub = spec, signals, ranks, hub
        self.port, self.resume = port, resume
        # Logical nodes are all this one: a node is what has a launcher.
        self.progress = Progress(spec.world_size, spec.nproc_per_node if hub is not None else spec.world_size)
        self.settle_by: Optional[float] = None  # set once ranks have ended in a way that may be another's doing
        self.end_by: Optional[float] = None  # set once a rank has finished with 0
        self.request: Optional[int] = None  # the signal by which somebody has asked to stop
        self.stop_by: Optional[float] = None  # set once that is under way
        self.stop_by_agreement = False
        self.asked_up_to: Optional[int] = (
            None  # while the ranks agree on their last step: the highest known to be begun
        )
        self.over: Optional[Verdict] = None  # decided by an event

    def run(self) -> Verdict:
        """Raises ``UsageError`` when the port is taken or a log cannot be written, ``RunError`` when a rank cannot be
        started.
        """
        verdict = self.start_first()
        if verdict is None:
            if self.hub is not None:
                self.hub.order({"start": {"resume": self.resume}})
            self.start([rank for rank in self.spec.ranks if rank != 0])
            self.progress.all_started(time.monotonic())
        while verdict is None:
            time.sleep(_POLL_SECONDS)
            verdict = self.look()
        return verdict

    def start(self, ranks: List[int]) -> None:
        for rank in ranks:
            self.progress.ranks[rank].started = True
        self.ranks.start(ranks)

    def start_first(self) -> Optional[Verdict]:
        """Rank 0 goes first: a rank that finds nobody listening sleeps for 10 s."""
        if self.spec.world_size == 1:  # nobody will connect
            self.start([0])
            return None
        refuse_taken_port(self.port)
        self.start([0])
        deadline = time.monotonic() + self.spec.start_timeout
        while not port_listens(self.port):
            verdict = self.look()
            if verdict is not None:
                early = fault("rank 0 ended with exit code 0 before the other ranks could join it")
                return verdict if verdict.code or self.signals.count else early
            if time.monotonic() > deadline:
                return fault(
                    f"rank 0 did not listen on {self.spec.master_addr}:{self.port} within {self.spec.start_timeout:g} s"
                )
            time.sleep(_POLL_SECONDS)
        return None

    def look(self) -> Optional[Verdict]:
        """Take in what has happened, and judge; the verdict, once there is one."""
        for event in self.ranks.poll():
            self.take(event)
        for event in self.hub.events() if self.hub is not None else ():
            self.take(event)
        return self.judge(time.monotonic())

    def take(self, event: Mapping[str, Any]) -> None:
        kind, node = event["event"], event.get("node", 0)
        if kind == "signal":
            self.request = self.request or event["number"]
        elif kind == "killed":  # the user of another node would not wait
            self.over = Verdict(
                128 + event["number"],
                f"{signal_name(event['number'])}, twice: all ranks are killed",
                node=node,
                own_words=(),
            )
        elif kind == "failed":  # a launcher that could not start its ranks
            self.over = Verdict(event["code"], event["line"], node=node)
        else:
            self.progress.note(event, time.monotonic())

    def judge(self, now: float) -> Optional[Verdict]:
        """How the job has ended, or ``None`` while it goes on."""
        verdict = self.over or self.judge_nodes() or self.judge_stop(now)
        if verdict is None and self.stop_by is None:
            verdict = self.judge_failures(now) or self.judge_ends(now) or self.judge_hang(now)
        if verdict is None:
            return None
        return Verdict(
            **{**verdict.to_message(), "step": self.progress.reached(), "fault": verdict.fault and self.stop_by is None}
        )

    def judge_nodes(self) -> Optional[Verdict]:
        gone = self.hub.lost() if self.hub is not None else None
        if gone is None:
            return None
        node, why = gone
        self.hub.drop(node)
        return fault(f"node {node} is gone: {why}")

    def judge_stop(self, now: float) -> Optional[Verdict]:
        if self.signals.count > 1:
            return Verdict(128 + self.signals.number)
        if self.signals.count and not self.request:
            self.request = self.signals.number
        if not self.request:
            return None
        if self.stop_by is None:
            self.begin_stop(now)
        if self.asked_up_to is not None:
            self.agree()
        alive, gentle = self.progress.alive(), self.stop_by_agreement
        failure = self.judge_failures(now) if gentle else None
        if failure is not None or (alive and now <= self.stop_by):
            return failure
        if alive and gentle:
            fail(
                f"{name_ranks(alive)} had not stopped {self.spec.stop_limit:g} s after {signal_name(self.request)}: "
                f"killed"
            )
        return Verdict(128 + self.request)

    def begin_stop(self, now: float) -> None:
        name = signal_name(self.request)
        self.stop_by_agreement = self.progress.all_have_begun()
        if self.stop_by_agreement:
            self.announce(f"{name}: finishing the step and saving (once more ends at once)")
            self.stop_by, self.asked_up_to = now + self.spec.stop_limit, 0
            self.tell({"ask": True})
        else:  # there is nothing to save yet, and the ranks cannot answer
            self.announce(f"{name}: stopping the ranks (once more kills them at once)")
            self.stop_by = now + self.spec.stop_grace
            self.ranks.terminate()
            if self.hub is not None:
                self.hub.order({"terminate": True})

    def agree(self) -> None:
        last, reached = self.progress.agreed(), self.progress.reached()
        if last is not None:
            self.tell({"stop_after": last})
            self.asked_up_to = None
        elif reached > self.asked_up_to:
            self.tell({"go": reached})
            self.asked_up_to = reached

    def judge_failures(self, now: float) -> Optional[Verdict]:
        if not self.progress.ends:
            return None
        alive = self.progress.alive()
        culprit = culprit_of(self.progress.ends)
        # Ranks abort when they lose another one; one that leaves by a signal got it with the launcher, which hears of
        # it in a moment.
        doubtful = (alive and aborted(culprit)) or asked_to_stop(culprit["code"])
        # All ranks find the same fault of usage, in any order. Rank 0 says it best: on the console, in its own words.
        seconds = _SETTLE_SECONDS if doubtful else 1.0 if culprit["code"] == _USAGE and 0 in alive else 0.0
        self.settle_by = self.settle_by or now + seconds
        if seconds and (now < self.settle_by or (doubtful and self.hub is not None and self.hub.is_quiet())):
            return None
        return report(culprit, zero_refused=self.progress.ranks[0].code == _USAGE)

    def judge_ends(self, now: float) -> Optional[Verdict]:
        alive, states = self.progress.alive(), self.progress.ranks
        if not alive:
            return Verdict(0)
        done = next((rank for rank, state in states.items() if state.code == 0), None)
        if done is None:
            return None
        self.end_by = self.end_by or now + self.spec.end_timeout
        if now <= max(self.end_by, self.progress.busy_until()):
            return None
        return fault(
            f"{name_ranks(alive)} had not ended {self.spec.end_timeout:g} s after rank {done} finished: killed"
        )

    def judge_hang(self, now: float) -> Optional[Verdict]:
        line = self.progress.hang(self.spec.step_timeout, now)
        return fault(line) if line else None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send ``message`` to the links of all ranks of all nodes."""
        self.ranks.tell(message)
        if self.hub is not None:
            self.hub.order({"tell": message})

    def announce(self, line: str) -> None:
        say(line)
        if self.hub is not None:
            self.hub.order({"say": line})


def aborted(end: Mapping[str, Any]) -> bool:
    return end["code"] == -signal.SIGABRT


def culprit_of(ends: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of bad ends, one that is not merely an abort because another rank had gone."""
    return min(ends, key=lambda end: (aborted(end), end["code"] == _USAGE, end["rank"]))


def report(end: Mapping[str, Any], zero_refused: bool) -> Verdict:
    """The verdict on a rank's bad end."""
    rank, node = end["rank"], end["node"]
    if end["code"] == _USAGE:
        words = end["lines"][-1:] or [f"pipeloom: error: rank {rank} refused; log: {end['log']}"]
        said = words[0].replace("pipeloom: error: ", "", 1)
        line = f"rank {rank} refused: {said if rank else 'see its console'}"
        return Verdict(_USAGE, line, node=node, own_words=[] if zero_refused else words)
    line, user = f"rank {rank} failed: {end['how']}", asked_to_stop(end["code"])
    if end["log"] is None:
        return Verdict(1, line, node=node, hint="; what it said is above", fault=not user)
    line += f"; log: {end['log']}; " + ("its last lines:" if end["lines"] else "it said nothing")
    return Verdict(1, line, end["lines"], node=node, fault=not user)
