"""One start of a job, conducted by node 0: it receives the events of all ranks and decides how the job ends."""

from __future__ import annotations

import signal
import time
from typing import Any, List, Mapping, Optional, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.launch.control.hub import Hub
from pipeloom.core.launch.control.local_ranks import LocalRanks
from pipeloom.core.launch.control.rank_states import RankStates, name_ranks
from pipeloom.core.launch.control.signals import Signals, asked_to_stop, signal_name
from pipeloom.core.launch.control.verdict import Verdict, fault, print_line
from pipeloom.core.launch.ports import port_listens, refuse_taken_port

_POLL_SECONDS = 0.02
#: After a rank's end that may be another's doing, the other may be a moment from its own, printing why.
_BLAME_SECONDS = 0.5
#: So long may the ranks of all nodes take to leave their stacks.
_STACKS_SECONDS = 4.0
_USAGE = UsageError.exit_code


class Coordinator:
    """Starts the ranks of ``spec`` (those of other nodes through ``hub``) and watches them to their end (``run``).

    The decision whether the job is over is in ``judge``, which is called after each round of events.
    """

    def __init__(self, spec: Any, signals: Signals, ranks: LocalRanks, hub: Optional[Hub], port: int, resume: str):
        self.spec, self.signals, self.ranks, self.hub = spec, signals, ranks, hub
        self.port, self.resume = port, resume
        # Logical nodes are all this one: a node is what has a launcher.
        self.states = RankStates(spec.world_size, spec.nproc_per_node if hub is not None else spec.world_size)
        self.blame_after: Optional[float] = None  # set once ranks have ended in a way that may be another's doing
        self.end_by: Optional[float] = None  # set once a rank has finished with 0
        self.request: Optional[int] = None  # the signal that requests a stop
        self.stop_by: Optional[float] = None  # set once the stop is under way
        self.stop_by_agreement = False
        # While the ranks agree on their last step: the highest step that is known to be begun.
        self.proposed_step: Optional[int] = None
        self.over: Optional[Verdict] = None  # decided by an event
        self.hanging = False
        self.stacks_by: Optional[float] = None  # set once the ranks were asked for their stacks

    def run(self) -> Verdict:
        """Run the job to its end.

        Raises ``UsageError`` when the port is in use or a log cannot be written, ``RunError`` when a rank cannot be
        started.
        """
        verdict = self.start_first()
        if verdict is None:
            if self.hub is not None:
                self.hub.order({"start": {"resume": self.resume}})
            self.start([rank for rank in self.spec.ranks if rank != 0])
            self.states.all_started(time.monotonic())
        while verdict is None:
            time.sleep(_POLL_SECONDS)
            verdict = self.poll()
        return verdict

    def start(self, ranks: List[int]) -> None:
        """Start some of this node's ranks."""
        for rank in ranks:
            self.states.ranks[rank].started = True
        self.ranks.start(ranks)

    def start_first(self) -> Optional[Verdict]:
        """Start rank 0 and wait for its port: another rank that finds nobody listening sleeps for 10 s."""
        if self.spec.world_size == 1:  # nobody will connect
            self.start([0])
            return None
        refuse_taken_port(self.port)
        self.start([0])
        deadline = time.monotonic() + self.spec.start_timeout
        while not port_listens(self.port):
            verdict = self.poll()
            if verdict is not None:
                early = fault("rank 0 ended with exit code 0 before the other ranks could join it")
                return verdict if verdict.code or self.signals.count else early
            if time.monotonic() > deadline and self.have_left_stacks(time.monotonic()):
                return self.stuck(
                    f"rank 0 did not listen on {self.spec.master_addr}:{self.port} within {self.spec.start_timeout:g} s"
                )
            time.sleep(_POLL_SECONDS)
        return None

    def poll(self) -> Optional[Verdict]:
        """Handle the events since the last call; return the verdict once there is one."""
        for event in self.ranks.poll():
            self.handle(event)
        for event in self.hub.events() if self.hub is not None else ():
            self.handle(event)
        return self.judge(time.monotonic())

    def handle(self, event: Mapping[str, Any]) -> None:
        """Note an event of a rank or of another launcher (``LocalRanks``, ``Follower``)."""
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
            self.states.note(event, time.monotonic())

    def judge(self, now: float) -> Optional[Verdict]:
        """Return how the job has ended, or ``None`` while it goes on."""
        verdict = self.over or self.judge_nodes() or self.judge_stop(now)
        if verdict is None and self.stop_by is None:
            verdict = self.judge_failures(now) or self.judge_ends(now) or self.judge_hang(now)
        if verdict is None:
            return None
        return Verdict(
            **{**verdict.to_message(), "step": self.states.reached(), "fault": verdict.fault and self.stop_by is None}
        )

    def judge_nodes(self) -> Optional[Verdict]:
        """Return the verdict on a job that has lost a node."""
        gone = self.hub.lost() if self.hub is not None else None
        if self.hub is None or gone is None:
            return None
        node, why = gone
        self.hub.drop(node)
        return fault(f"node {node} is gone: {why}")

    def judge_stop(self, now: float) -> Optional[Verdict]:
        """Bring a job to its end that a signal stops; return the verdict when its ranks have ended."""
        if self.signals.count > 1:
            return Verdict(128 + self.signals.number)
        if self.signals.count and not self.request:
            self.request = self.signals.number
        if not self.request:
            return None
        stop_by = self.stop_by if self.stop_by is not None else self.begin_stop(self.request, now)
        if self.proposed_step is not None:
            self.proposed_step = self.agree(self.proposed_step)
        alive, gentle = self.states.alive(), self.stop_by_agreement
        failure = self.judge_failures(now) if gentle else None
        if failure is not None or (alive and now <= stop_by):
            return failure
        if alive and gentle:
            if not self.have_left_stacks(now):
                return None
            seconds, name = self.spec.stop_limit, signal_name(self.request)
            self.stuck(f"{name_ranks(alive)} had not stopped {seconds:g} s after {name}: killed").show(0)
        return Verdict(128 + self.request)

    def begin_stop(self, request: int, now: float) -> float:
        """Begin to stop the ranks because of the signal ``request``; return when that shall have ended."""
        name = signal_name(request)
        self.stop_by_agreement = self.states.all_have_begun()
        if self.stop_by_agreement:
            self.announce(f"{name}: finishing the step and saving (once more ends at once)")
            self.stop_by, self.proposed_step = now + self.spec.stop_limit, 0
            self.send_to_ranks({"hold": True})
        else:  # there is nothing to save yet, and the ranks cannot answer
            self.announce(f"{name}: stopping the ranks (once more kills them at once)")
            self.stop_by = now + self.spec.stop_grace
            self.ranks.terminate()
            if self.hub is not None:
                self.hub.order({"terminate": True})
        return self.stop_by

    def agree(self, proposed: int) -> Optional[int]:
        """Send the ranks their last step once all have answered; until then return the highest step that is begun."""
        last, reached = self.states.agreed(), self.states.reached()
        if last is not None:
            self.send_to_ranks({"stop_after": last})
            return None
        if reached > proposed:
            self.send_to_ranks({"proceed_to": reached})
        return max(reached, proposed)

    def judge_failures(self, now: float) -> Optional[Verdict]:
        """Return the verdict on a job in which a rank has failed."""
        if not self.states.ends:
            return None
        alive = self.states.alive()
        culprit = culprit_of(self.states.ends)
        # Ranks abort when they lose another one; one that leaves by a signal got it with the launcher, which hears of
        # it in a moment.
        doubtful = (alive and aborted(culprit)) or asked_to_stop(culprit["code"])
        # All ranks find the same fault of usage, in any order. Rank 0 says it best: on the console, in its own words.
        seconds = _BLAME_SECONDS if doubtful else 1.0 if culprit["code"] == _USAGE and 0 in alive else 0.0
        self.blame_after = self.blame_after or now + seconds
        if seconds and (now < self.blame_after or (doubtful and self.hub is not None and self.hub.is_quiet())):
            return None
        return report(culprit, zero_refused=self.states.ranks[0].code == _USAGE)

    def judge_ends(self, now: float) -> Optional[Verdict]:
        """Return the verdict on a job whose ranks have finished, or of which some do not come to their end."""
        alive, ranks = self.states.alive(), self.states.ranks
        if not alive:
            return Verdict(0)
        done = next((rank for rank, state in ranks.items() if state.code == 0), None)
        if done is None:
            return None
        self.end_by = self.end_by or now + self.spec.end_timeout
        if now <= max(self.end_by, self.states.busy_until()) or not self.have_left_stacks(now):
            return None
        return self.stuck(
            f"{name_ranks(alive)} had not ended {self.spec.end_timeout:g} s after rank {done} finished: killed"
        )

    def judge_hang(self, now: float) -> Optional[Verdict]:
        """Return the verdict on a job of which no rank moves any more."""
        limit = self.spec.step_timeout
        if not (self.hanging or self.states.hangs(limit, now)):
            return None
        self.hanging = True
        if not self.have_left_stacks(now):
            return None
        return self.stuck(f"no rank has begun a step for {limit:g} s (--step_timeout): {self.states.behind()}")

    def have_left_stacks(self, now: float) -> bool:
        """Ask all ranks for their stacks, the first time; return whether they have come, or had the time to."""
        if self.stacks_by is None:
            self.stacks_by = now + _STACKS_SECONDS
            self.ranks.ask_for_stacks()
            if self.hub is not None:
                self.hub.order({"stacks": True})
        return now > self.stacks_by or all(self.states.ranks[rank].stacks for rank in self.states.alive())

    def stuck(self, line: str) -> Verdict:
        """Return the verdict on ranks that do not come on, with what each is at and where its stacks are."""
        return fault(line + self.states.where_stacks_are(), details=self.states.phases())

    def send_to_ranks(self, message: Mapping[str, Any]) -> None:
        """Send ``message`` to the links of all ranks of all nodes."""
        self.ranks.send(message)
        if self.hub is not None:
            self.hub.order({"to_ranks": message})

    def announce(self, line: str) -> None:
        """Print ``line`` on all nodes."""
        print_line(line)
        if self.hub is not None:
            self.hub.order({"print": line})


def aborted(end: Mapping[str, Any]) -> bool:
    """Return whether a rank ended by an abort, as OneFlow's does that has lost another one."""
    return end["code"] == -signal.SIGABRT


def culprit_of(ends: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return, of bad ends, one that is not merely an abort because another rank had gone."""
    return min(ends, key=lambda end: (aborted(end), end["code"] == _USAGE, end["rank"]))


def report(end: Mapping[str, Any], zero_refused: bool) -> Verdict:
    """Return the verdict on a rank's bad end."""
    rank, node = end["rank"], end["node"]
    if end["code"] == _USAGE:
        words = end["lines"][-1:] or [f"pipeloom: error: rank {rank} refused; log: {end['log']}"]
        reason = words[0].replace("pipeloom: error: ", "", 1)
        line = f"rank {rank} refused: {reason if rank else 'see its console'}"
        return Verdict(_USAGE, line, node=node, own_words=[] if zero_refused else words)
    line, user = f"rank {rank} failed: {end['how']}", asked_to_stop(end["code"])
    if end["log"] is None:
        return Verdict(1, line, node=node, hint="; what it said is above", fault=not user)
    line += f"; log: {end['log']}; " + ("its last lines:" if end["lines"] else "it said nothing")
    return Verdict(1, line, end["lines"], node=node, fault=not user)
