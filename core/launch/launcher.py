"""Starts the ranks of this node, watches them, and leaves nothing behind when one of them fails.

Why a supervisor is needed at all: when one rank of a OneFlow job raises, hangs at start or is killed, the
others wait for minutes or for ever. What is done about it: rank 0 starts first and the others when its port
listens (a rank that comes earlier sleeps 10 s); the first bad end, or a hang, stops every rank of every node; and
the ranks die with the launcher, even when that is killed by SIGKILL. ``core/launch/control/`` holds the machinery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Mapping, Optional, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.launch.control.nodes import NodesSpec
from pipeloom.core.launch.control.signals import Signals, Stopped
from pipeloom.core.launch.control.supervisor import follow, supervise
from pipeloom.core.launch.network import local_fault
from pipeloom.core.launch.ports import free_port
from pipeloom.core.launch.processes import allow_open_files

__all__ = ["LaunchSpec", "NodesSpec", "free_port", "launch"]


@dataclass(frozen=True)
class LaunchSpec:
    """What to start on this node. All times are in seconds.

    ``ranks`` are the global ranks of this node; the i-th of them gets local rank ``first_local_rank + i``. Every rank
    executes ``command`` in the environment ``inherited`` (default: the launcher's) plus ``env``. ``nodes`` is given
    when each of several nodes has a launcher.

    ``start_timeout`` bounds the wait for rank 0's port, ``end_timeout`` how much later than the first rank the last may
    finish, ``step_timeout`` the time in which no rank begins a step (0: no bound), ``stop_limit`` how long ranks that
    were asked to stop may take to finish their step and save, ``stop_grace`` how long before their first step.

    After a fault the job starts again, ``max_restarts`` times at most, with the folder that
    ``choose_resume()`` returns to go on from (``None``: from the beginning), unless it failed at the step of the fault
    before. The first start goes on from ``resume`` ("": from the beginning). ``job_text(folder)`` is what the ranks of
    such a start find in PIPELOOM_JOB. ``port_is_free_to_choose``: a new start takes another free port than
    ``master_port``. ``report`` is called with what is known of why the job failed, "" where it did not.
    """

    command: Sequence[str]
    ranks: Sequence[int]
    world_size: int
    nproc_per_node: int
    master_addr: str
    master_port: int
    log_dir: Path
    inherited: Optional[Mapping[str, str]] = None
    env: Mapping[str, str] = field(default_factory=dict)
    resume: str = ""
    job_text: Callable[[str], str] = str
    first_local_rank: int = 0
    start_timeout: float = 60.0
    end_timeout: float = 30.0
    step_timeout: float = 600.0
    stop_limit: float = 600.0
    stop_grace: float = 5.0
    max_restarts: int = 0
    choose_resume: Optional[Callable[[], Optional[Path]]] = None
    port_is_free_to_choose: bool = False
    nodes: Optional[NodesSpec] = None
    report: Callable[[str], object] = str

    def __post_init__(self) -> None:
        ranks = list(self.ranks)
        if not ranks or len(set(ranks)) != len(ranks) or not all(0 <= r < self.world_size for r in ranks):
            raise ValueError(f"ranks {ranks} are not distinct ranks of a world of {self.world_size}")
        if self.nodes is None and len(ranks) != self.world_size:
            raise ValueError(
                f"ranks {ranks} are not the whole world of {self.world_size}: say in ``nodes`` where the others are"
            )


def launch(spec: LaunchSpec) -> int:
    """Runs the ranks of ``spec`` to their end; must be called from the main thread.

    Returns 0 if all ended with 0; 2 if a rank ended with 2 (a usage error, which that rank has explained); 128 + n
    after signal n to the launcher, or SIGTERM to a rank; 1 otherwise, after one line on stderr that names the first
    rank or node that failed, how, and the rank's log, followed by the last lines of the log. No rank is alive when it
    returns.

    Raises:
        UsageError: the master port is taken, the address unknown, or the log folder cannot be written; this machine
            cannot connect to itself or allows too few open files; the nodes do not fit together, or one does not come.
        RunError: a rank cannot be started, or a node does not come back for a restart.
    """
    try:
        Path(spec.log_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the log folder {spec.log_dir}: {error.strerror}") from None
    fault = local_fault(spec.world_size)
    if fault:
        raise UsageError(fault)
    allow_open_files(spec.world_size)
    with Signals() as signals:
        try:
            if spec.nodes is None or spec.nodes.node_rank == 0:
                return supervise(spec, signals)
            return follow(spec, signals)
        except Stopped as stopped:
            return stopped.exit_code
