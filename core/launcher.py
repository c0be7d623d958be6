"""Starts the ranks of this node, watches them, and leaves nothing behind when one of them fails.

Why a supervisor is needed at all: when one rank of a OneFlow job raises, hangs at start or is killed, the
others wait for minutes or for ever. What is done about it: rank 0 starts first and the others when its port
listens (a rank that comes earlier sleeps 10 s); the first bad end stops every rank; and the ranks die with
the launcher, even when that is killed by SIGKILL.
"""
from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from pipeloom.core.errors import RunError, UsageError
from pipeloom.core.ports import connects, free_port, port_listens, refuse_taken_port
from pipeloom.core.processes import RankProcess, rank_environment, tuned_environment

_POLL_SECONDS = 0.02
_SETTLE_SECONDS = 0.5
_USAGE = UsageError.exit_code

__all__ = ["LaunchSpec", "free_port", "launch"]


@dataclass(frozen=True)
class LaunchSpec:
    """What to start on this node. All times are in seconds.

    ``ranks`` are the global ranks of this node; the i-th of them gets local rank ``first_local_rank + i``. Every rank executes
    ``command`` in the launcher's environment plus ``env``. ``start_timeout`` bounds the wait for rank 0's
    port, ``end_timeout`` how much later than the first rank the last may finish, ``stop_grace`` how long the
    ranks may take to stop after a SIGTERM.
    """

    command: Sequence[str]
    ranks: Sequence[int]
    world_size: int
    nproc_per_node: int
    master_addr: str
    master_port: int
    log_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    first_local_rank: int = 0
    start_timeout: float = 60.0
    end_timeout: float = 30.0
    stop_grace: float = 5.0

    def __post_init__(self) -> None:
        ranks = list(self.ranks)
        if not ranks or len(set(ranks)) != len(ranks) or not all(0 <= r < self.world_size for r in ranks):
            raise ValueError(f"ranks {ranks} are not distinct ranks of a world of {self.world_size}")


def launch(spec: LaunchSpec) -> int:
    """Runs the ranks of ``spec`` to their end; must be called from the main thread.

    Returns 0 if all ended with 0; 2 if a rank ended with 2 (a usage error, which that rank has explained);
    128 + n after signal n to the launcher; 1 otherwise, after one line on stderr that names the first rank
    that failed, how, and its log, followed by the last lines of the log. No rank is alive when it returns.

    Raises:
        UsageError: the master port is taken, the address unknown, or the log folder cannot be written.
        RunError: rank 0 did not listen, or could not be reached, within ``start_timeout``.
    """
    try:
        Path(spec.log_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the log folder {spec.log_dir}: {error.strerror}") from None
    with _Signals() as signals:
        job = _Job(spec, signals)
        try:
            return job.run()
        finally:
            job.clear()


class _Signals:
    """Counts the requests to stop, instead of letting them interrupt the launcher anywhere."""

    def __init__(self) -> None:
        self.count, self.number = 0, 0

    def __enter__(self) -> "_Signals":
        self._before: Dict[int, object] = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and `&` mean what they say
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: object) -> None:
        self.count += 1
        self.number = number


class _Job:
    """The ranks of one launch. ``check`` is the heart: it looks once and says whether the job is over."""

    def __init__(self, spec: LaunchSpec, signals: _Signals):
        self.spec = spec
        self.signals = signals
        self.ranks: List[RankProcess] = []
        self.stop_by: Optional[float] = None  # set once the user has asked to stop
        self.settle_by: Optional[float] = None  # set once ranks have aborted, and nothing worse is known
        self.end_by: Optional[float] = None  # set once a rank has finished with 0
        self.env = {**tuned_environment(os.environ), **spec.env}

    def run(self) -> int:
        verdict = self.start_first() if 0 in self.spec.ranks else self.find_master()
        if verdict is not None:
            return verdict
        for rank in self.spec.ranks:
            if rank != 0:
                self.start(rank)
        while verdict is None:
            time.sleep(_POLL_SECONDS)
            verdict = self.check()
        return verdict

    def start_first(self) -> Optional[int]:
        spec, port = self.spec, self.spec.master_port
        if spec.world_size == 1:  # nobody will connect
            self.start(0)
            return None
        refuse_taken_port(port)
        self.start(0)
        return self.wait_until(
            lambda: port_listens(port), f"rank 0 did not listen on {spec.master_addr}:{port} within"
        )

    def find_master(self) -> Optional[int]:
        address, port = self.spec.master_addr, self.spec.master_port
        return self.wait_until(
            lambda: connects(address, port),
            f"no rank 0 answers at {address}:{port} (is node 0 running, is the port open?) after",
        )

    def wait_until(self, ready: Callable[[], bool], failure: str) -> Optional[int]:
        deadline = time.monotonic() + self.spec.start_timeout
        while not ready():
            verdict = self.check()
            if verdict == 0 and self.ranks:
                raise RunError("rank 0 ended with exit code 0 before the other ranks could join it")
            if verdict:
                return verdict
            if time.monotonic() > deadline:
                raise RunError(f"{failure} {self.spec.start_timeout:g} s")
            time.sleep(_POLL_SECONDS)
        return None

    def start(self, rank: int) -> None:
        s = self.spec
        local_rank = s.first_local_rank + list(s.ranks).index(rank)
        identity = rank_environment(
            rank, local_rank, s.world_size, s.nproc_per_node, s.master_addr, s.master_port
        )
        self.ranks.append(RankProcess(rank, s.command, {**self.env, **identity}, Path(s.log_dir)))

    def check(self) -> Optional[int]:
        """The exit code of the job if it is over, ``None`` while it goes on."""
        alive = [r for r in self.ranks if not r.has_ended()]
        failed = [r for r in self.ranks if r.returncode]
        if self.signals.count:
            return self.stop(alive)
        if failed:
            culprit = _culprit(failed)
            if _aborted(culprit) and alive:
                # Ranks abort when they lose another one; that one may be a moment from its end, printing why.
                self.settle_by = self.settle_by or time.monotonic() + _SETTLE_SECONDS
                if time.monotonic() < self.settle_by:
                    return None
            return self.report(culprit)
        if not alive:
            return 0
        if len(alive) < len(self.ranks):
            self.end_by = self.end_by or time.monotonic() + self.spec.end_timeout
            if time.monotonic() > self.end_by:
                names = ", ".join(str(r.rank) for r in alive)
                done = next(r.rank for r in self.ranks if r.returncode == 0)
                _fail(f"rank {names} had not ended {self.spec.end_timeout:g} s after rank {done} finished: killed")
                return RunError.exit_code
        return None

    def stop(self, alive: List[RankProcess]) -> Optional[int]:
        code = 128 + self.signals.number
        if self.stop_by is None:
            self.stop_by = time.monotonic() + self.spec.stop_grace
            _say(f"{signal.Signals(self.signals.number).name}: stopping the ranks (once more kills them at once)")
            for rank in alive:
                rank.terminate()
        over = not alive or self.signals.count > 1 or time.monotonic() > self.stop_by
        return code if over else None

    def report(self, rank: RankProcess) -> int:
        if rank.returncode == _USAGE:
            return self.report_usage_error(rank)
        line = f"rank {rank.rank} failed: {rank.how_it_ended()}"
        if rank.log is None:
            _fail(f"{line}; what it said is above")
            return RunError.exit_code
        lines = rank.last_lines()
        _fail(f"{line}; log: {rank.log}; " + ("its last lines:" if lines else "it said nothing"))
        for text in lines:
            print(f"  | {text}", file=sys.stderr, flush=True)
        return RunError.exit_code

    def report_usage_error(self, rank: RankProcess) -> int:
        # All ranks find the same fault, in any order. Rank 0 says it best: on the console, in its own words.
        first = next((r for r in self.ranks if r.rank == 0), None)
        if first is not None:
            first.reap(timeout=1.0)
        if first is None or first.returncode != _USAGE:
            print("\n".join(rank.last_lines(1)) or f"pipeloom: error: rank {rank.rank} refused; log: {rank.log}",
                  file=sys.stderr, flush=True)
        return _USAGE

    def clear(self) -> None:
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.reap()


def _aborted(rank: RankProcess) -> bool:
    return rank.returncode == -signal.SIGABRT


def _culprit(failed: List[RankProcess]) -> RankProcess:
    """Of the ranks found dead, one that did not merely abort because another had gone."""
    return min(failed, key=lambda r: (_aborted(r), r.returncode == _USAGE, r.rank))


def _say(line: str) -> None:
    print(f"pipeloom: {line}", file=sys.stderr, flush=True)


def _fail(line: str) -> None:
    _say(f"error: {line}")
