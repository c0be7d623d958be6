"""A training job over the two nodes of a ``Link``: one launcher in each namespace, as on two machines."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from benchmarks.lab.namespaces import LabError, Link
from pipeloom.core.base.variables import outside_environment

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


class TwoNodeJob:
    """``with TwoNodeJob(link, flags, folder) as job: job.wait(120)``.

    ``flags`` go to ``entry.py``; those of the cluster are added. Like machines without a common disk, each
    node has a run directory of its own, ``folder/run_<n>``; what it prints is in ``folder/node_<n>.log``.
    ``command``: ``train``, or ``profile``, which writes a file in the place of a run directory.
    ``nodes`` says which of them to start at once (``start`` starts the others). Whatever is still alive when
    the block ends, or when this process dies, is killed.
    """

    def __init__(
        self,
        link: Link,
        flags: Sequence[str],
        folder: Path,
        nproc_per_node: int = 2,
        port: int = 29500,
        env: Optional[Mapping[str, str]] = None,
        nodes: Sequence[int] = (0, 1),
        root: Path = ROOT,
        command: str = "train",
    ) -> None:
        self.link, self.folder, self.root, self.command = link, Path(folder), root, command
        self.size = 2 * nproc_per_node
        self.flags = [
            *flags,
            "--nnodes",
            "2",
            "--nproc_per_node",
            str(nproc_per_node),
            "--master_addr",
            link.addresses[0],
            "--master_port",
            str(port),
        ]
        self.env = {**outside_environment(os.environ), "PYTHONPATH": str(root), **(env or {})}
        self.nodes = tuple(nodes)
        self.processes: Dict[int, subprocess.Popen] = {}

    def __enter__(self) -> "TwoNodeJob":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for node in self.nodes:
                self.start(node)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, node: int) -> None:
        command = [
            sys.executable,
            str(self.root / "entry.py"),
            self.command,
            *self.flags,
            "--node_rank",
            str(node),
            "--output_dir" if self.command == "train" else "--output",
            str(self.run(node)),
        ]
        with open(self.log(node), "wb") as log:
            self.processes[node] = subprocess.Popen(
                self.link.command(node, command),
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )

    def run(self, node: int) -> Path:
        """The run directory of ``node``; that of node 0 has the metrics."""
        return self.folder / f"run_{node}"

    def log(self, node: int) -> Path:
        return self.folder / f"node_{node}.log"

    def ended(self) -> Dict[int, int]:
        """Exit codes of the launchers that have ended, by node."""
        return {node: process.returncode for node, process in self.processes.items() if process.poll() is not None}

    def wait_for(self, ready: Callable[[], bool], limit: float, what: str) -> None:
        """Wait until ``ready()``. Raises ``LabError``, with the last lines of both nodes, when a node ends
        badly meanwhile or ``limit`` seconds are over."""
        end = time.monotonic() + limit
        while not ready():
            bad = {node: code for node, code in self.ended().items() if code}
            if bad or time.monotonic() > end:
                why = (
                    ", ".join(f"node {node} ended with {code}" for node, code in bad.items())
                    or f"not within {limit:g} s"
                )
                raise LabError(f"{what}: {why}\n{self.last_lines()}")
            time.sleep(0.05)

    def wait(self, limit: float) -> None:
        """Wait until both launchers have ended with 0; raises ``LabError`` otherwise."""
        self.wait_for(
            lambda: len([code for code in self.ended().values() if code == 0]) == len(self.processes),
            limit,
            "end of the job",
        )

    def kill(self, node: Optional[int] = None) -> None:
        """SIGKILL to the launcher of ``node``, or to all; their ranks die with them."""
        chosen = [process for number, process in self.processes.items() if node in (None, number)]
        for process in chosen:
            if process.poll() is None:
                process.kill()
        for process in chosen:
            process.wait(10)

    def last_lines(self, count: int = 12) -> str:
        lines: List[str] = []
        for node in sorted(self.processes):
            said = self.log(node).read_text(errors="replace").splitlines()
            lines += [f"node {node} | {line}" for line in said[-count:]]
        return "\n".join(lines)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
