"""The rank processes of this node: start them, receive their events, send them messages, remove them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from pipeloom.core.base.variables import CONTROL_FD, JOB, TRACE_FD
from pipeloom.core.launch.control.channel import Channel
from pipeloom.core.launch.control.rank_trace import RankTrace
from pipeloom.core.launch.processes import RankProcess, identity_variables, rank_environment

_POLL_STATE_SECONDS = 0.25


class LocalRanks:
    """The processes of one start of ``spec`` (a ``LaunchSpec``) on this node, each with a channel to its ``RankLink``.

    ``poll`` returns what happens to them as events, which other nodes send to node 0 as they are: dicts with
    ``event``, ``rank`` and, by event:
    ``step`` and ``answer``: ``step``; ``busy``: ``what``, ``seconds``; ``signal``: ``number``;
    ``ended``: ``code``, ``how``, ``log`` (``None``: the console), ``lines`` (its last ones);
    ``asleep``: ``asleep``, whether the process is stopped, by SIGSTOP or a debugger;
    ``stacks``, once asked for: ``what``, ``alone``, ``seconds``, ``where`` (what it does, how long, in which function),
    ``fault`` (why there are none), ``path``.
    """

    def __init__(self, spec: Any, port: int, resume: str):
        self._spec, self._port = spec, port
        self._env = {**rank_environment(os.environ if spec.inherited is None else spec.inherited), **spec.env}
        self._env[JOB] = spec.job_text(resume)
        self._processes: Dict[int, RankProcess] = {}
        self._channels: Dict[int, Channel] = {}
        self._traces: Dict[int, RankTrace] = {}
        self._ended: List[int] = []
        self._asleep: List[int] = []
        self._poll_state_at = 0.0

    def start(self, ranks: Sequence[int]) -> None:
        """Start ``ranks``.

        Raises ``UsageError`` when a log cannot be written, ``RunError`` when the command cannot be executed.
        """
        s = self._spec
        for rank in ranks:
            local_rank = s.first_local_rank + list(s.ranks).index(rank)
            identity = identity_variables(rank, local_rank, s.world_size, s.nproc_per_node, s.master_addr, self._port)
            ours, theirs = socket.socketpair()
            try:
                handed = {CONTROL_FD: theirs.fileno(), **self._make_trace(rank)}
                env = {**self._env, **identity, **{name: str(number) for name, number in handed.items()}}
                self._processes[rank] = RankProcess(rank, s.command, env, Path(s.log_dir), tuple(handed.values()))
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            self._channels[rank] = Channel(ours)

    def _make_trace(self, rank: int) -> Dict[str, int]:
        """Return the variable that names a rank its trace; none where no file can be made for it."""
        try:
            self._traces[rank] = RankTrace()
        except OSError:
            return {}
        return {TRACE_FD: self._traces[rank].fileno()}

    def poll(self) -> List[Mapping[str, Any]]:
        """Return the events since the last call."""
        events: List[Mapping[str, Any]] = []
        for rank, process in self._processes.items():
            ended = process.has_ended()  # looked at first: what it said before its end is then all there
            events += [{**message, "rank": rank} for message in self._channels[rank].receive() if "event" in message]
            if ended and rank not in self._ended:
                self._ended.append(rank)
                events.append(
                    {
                        "event": "ended",
                        "rank": rank,
                        "code": process.returncode,
                        "how": process.how_it_ended(),
                        "log": process.log and str(process.log),
                        "lines": process.last_lines() if process.returncode else [],
                    }
                )
        if time.monotonic() > self._poll_state_at:
            self._poll_state_at = time.monotonic() + _POLL_STATE_SECONDS
            asleep = [rank for rank, process in self._processes.items() if process.is_asleep()]
            events += [
                {"event": "asleep", "rank": rank, "asleep": rank in asleep}
                for rank in sorted({*asleep} ^ {*self._asleep})
            ]
            self._asleep = asleep
        return events + self._answered()

    def ask_for_stacks(self) -> None:
        """Let every rank that runs leave its stacks; ``poll`` tells of each when it has."""
        for rank, trace in self._traces.items():
            process = self._processes.get(rank)
            if process is not None and not process.has_ended():
                trace.ask(process.pid, process.is_asleep())

    def _answered(self) -> List[Mapping[str, Any]]:
        """Keep the stacks that have come; return an event for each."""
        events: List[Mapping[str, Any]] = []
        for rank in [rank for rank, trace in self._traces.items() if trace.is_asked and trace.is_answered()]:
            trace, path = self._traces.pop(rank), Path(self._spec.log_dir) / f"stacks_of_rank_{rank}.txt"
            fault = trace.write(path, self._processes[rank].pid, f"rank {rank}")
            events.append({"event": "stacks", "rank": rank, "fault": fault, "path": str(path), **trace.summary()})
            trace.close()
        return events

    def send(self, message: Mapping[str, Any]) -> None:
        """Send ``message`` to the link of every rank."""
        for channel in self._channels.values():
            channel.send(message)

    def terminate(self) -> None:
        """Send SIGTERM to every rank; one whose link keeps signals off gets a message to exit."""
        self.send({"exit": 143})
        for process in self._processes.values():
            process.terminate()

    def clear(self) -> None:
        """Kill what is left and wait until it is gone."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.reap()
        for channel in self._channels.values():
            channel.close()
        for trace in self._traces.values():
            trace.close()
