"""One rank as a child process: its environment, its log, its end, and what it leaves behind."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

import pipeloom
from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.variables import LOCAL_WORLD_SIZE
from pipeloom.core.launch.interpreter import bearable
from pipeloom.core.launch.network import without_proxies

#: What the soft limit of open files is raised to.
_OPEN_FILES = 4096

_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec a child should do as little as possible.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def own_command() -> List[str]:
    """What starts this program once more: by its file, or as a module where it was started as one (``python -m
    pipeloom``)."""
    program = Path(sys.argv[0]).resolve()
    as_module = program == Path(pipeloom.__file__).resolve().parent / "__main__.py"
    return [sys.executable, *(["-m", "pipeloom"] if as_module else [str(program)])]


class RankProcess:
    """A rank, running from the moment of construction.

    Args:
        rank: its global rank; rank 0 has the console, any other writes to ``log_dir/rank_<n>.log``.
        command: what to execute.
        env: its whole environment.
        log_dir: an existing folder. A log from an earlier run is continued, not lost.
        pass_fds: open files that it gets under the same numbers.

    Raises:
        UsageError: the log cannot be written.
        RunError: the command cannot be executed.
    """

    def __init__(
        self, rank: int, command: Sequence[str], env: Mapping[str, str], log_dir: Path, pass_fds: Sequence[int] = ()
    ):
        self.rank = rank
        self.returncode: Optional[int] = None
        self.log: Optional[Path] = log_dir / f"rank_{rank}.log" if rank != 0 else None
        self._log_start = 0
        output = None
        try:
            if self.log is not None:
                env = {**env, "PYTHONIOENCODING": "utf-8"}  # a log is no console, whatever that is like
                output = open(self.log, "ab")
                self._log_start = output.tell()
            self._process = subprocess.Popen(
                list(command),
                env=dict(env),
                # No rank reads the terminal: it is not in the terminal's foreground group and would be stopped.
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                pass_fds=tuple(pass_fds),
                preexec_fn=_own_group_and_die_with(os.getpid()),
            )
        except OSError as error:
            if self.log is not None and output is None:
                raise UsageError(f"cannot write {self.log}: {error.strerror}; choose another log folder") from None
            raise RunError(f"cannot start rank {rank}: {error.strerror}: {command[0]}") from None
        except subprocess.SubprocessError:
            raise RunError(f"cannot start rank {rank}: the launcher is going down or the system refused") from None
        finally:
            if output is not None:
                output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether the rank is over; if so, what it started in its group is killed, and it is reaped."""
        if self.returncode is None:
            # WNOWAIT leaves it a zombie, so that its number still belongs to its group when that is killed.
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self._signal_group(signal.SIGKILL)
            self.returncode = self._process.wait()
        return True

    def terminate(self) -> None:
        """Asks the rank (not its children: it may need them to finish) to stop, by SIGTERM."""
        if self.returncode is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the rank and to all it started in its group."""
        if self.returncode is None:
            self._signal_group(signal.SIGKILL)

    def reap(self, timeout: float = 10.0) -> None:
        """Waits, at most ``timeout`` seconds, for a killed rank to be gone (uninterruptible I/O may hold it)."""
        deadline = time.monotonic() + timeout
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def is_asleep(self) -> bool:
        """Whether a signal (SIGSTOP) or a debugger has stopped it."""
        try:
            with open(f"/proc/{self._process.pid}/stat", encoding="ascii", errors="replace") as f:
                return self.returncode is None and f.read().rpartition(")")[2].split()[0] in ("T", "t")
        except (OSError, IndexError):
            return False

    def how_it_ended(self) -> str:
        """``exit code 1``, ``killed by SIGKILL``, ``aborted (SIGABRT)``."""
        code = self.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if -code == signal.SIGABRT:
            return f"aborted ({name})"
        hint = " (the kernel does that when memory runs out)" if -code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"

    def last_lines(self, count: int = 15) -> List[str]:
        """The last ``count`` non-blank lines that this run wrote to the log; none for rank 0."""
        if self.log is None:
            return []
        try:
            with open(self.log, "rb") as f:
                f.seek(max(self._log_start, os.fstat(f.fileno()).st_size - 64 * 1024))
                text = f.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def rank_environment(inherited: Mapping[str, str]) -> Dict[str, str]:
    """The environment of a rank but for its identity, from ``inherited``: without proxies, and without what is not for
    a rank."""
    # The last lines of a rank that gets killed are to be in its log, not in a buffer that died with it.
    return {"PYTHONUNBUFFERED": "1", **bearable(without_proxies(inherited))}


def identity_variables(
    rank: int, local_rank: int, world_size: int, nproc_per_node: int, master_addr: str, master_port: int
) -> Dict[str, str]:
    """The variables that tell a process which rank it is. OneFlow reads the first five."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": master_addr,
        "MASTER_PORT": str(master_port),
        LOCAL_WORLD_SIZE: str(nproc_per_node),
    }


def allow_open_files(world_size: int) -> None:
    """Let the ranks, which inherit it, have enough open files: where a connection cannot be opened, ranks hang.

    Raises ``UsageError`` where the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    allowed = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    needed = 64 + 8 * world_size  # measured: 39 for two ranks, 52 for four, and a map for each part of the data
    if allowed < needed:
        raise UsageError(
            f"{allowed} open files at most (ulimit -n), a job of {world_size} ranks needs {needed}: raise "
            "the hard limit, for instance in /etc/security/limits.conf"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _own_group_and_die_with(launcher: int):
    """What a child does between fork and exec, so that no death of the launcher leaves it behind."""

    def prepare() -> None:
        os.setpgid(0, 0)
        # In a background group, `stty tostop` would stop a rank that prints; ignoring SIGTTOU lets it print.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        # Of the launcher, too, where they reach all processes of a job: a rank has nothing to say before it has begun.
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        die_with(launcher)

    return prepare


def die_with(parent: int) -> None:
    """From now on this process is killed when ``parent``, which started it, ends in whatever way."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request above took effect
        os._exit(1)
