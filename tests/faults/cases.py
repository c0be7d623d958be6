"""Faults in real runs, one function each: it strikes, asserts what must be true, and says in a row what happened."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

from harness import MODEL, ONE, PP2, Ended, Job, checkpoints, curve, newest

from pipeloom.core.launch.ports import free_port, port_listens

STEPS = 12
FLAGS = [*MODEL, "--train_steps", str(STEPS)]


@dataclass(frozen=True)
class Row:
    """``survived``: what was true afterwards. ``seconds`` to the end of the job after the fault."""

    fault: str
    seconds: float
    survived: str
    line: str


class Reference:
    """The curve of a run that nothing disturbs; made at most once for each layout."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._curves = folder, {}  # type: ignore[var-annotated]

    def __call__(self, *layout: str) -> List[Dict[str, float]]:
        if layout not in self._curves:
            job = Job(self._folder, f"reference-{len(self._curves)}", *FLAGS, *layout, "--save_every", "0")
            ended = job.end()
            assert ended.code == 0, ended.said
            self._curves[layout] = curve(job.directory)
        return self._curves[layout]


def _ended(job: Job, since: float, code: int, *says: str) -> Ended:
    """The end of a job that a fault at ``since`` brings about within 15 s, with nothing left behind."""
    ended = job.end(limit=60, since=since)
    assert ended.code == code and ended.seconds < 15, (ended.code, ended.seconds, ended.said)
    assert not ended.orphans and "Traceback" not in ended.line
    for text in says:
        assert text in ended.said, (text, ended.said)
    return ended


# --- ranks and nodes


def rank_killed(folder: Path, reference: Reference, rank: int = 1) -> Row:
    job = Job(folder, f"killed-{rank}", *MODEL, *PP2, "--train_steps", "100000", "--master_port", str(free_port()))
    job.wait_for(r"^step +3/")
    pid, struck = job.rank(rank), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    ended = _ended(job, struck, 1, f"rank {rank} failed: killed by SIGKILL")
    return Row(f"SIGKILL of rank {rank}", ended.seconds, "all ended, rank named, no process left", ended.line)


def rank_raises(folder: Path, reference: Reference, rank: int = 1) -> Row:
    job = Job(folder, f"raised-{rank}", *FLAGS, *PP2, faults=f"raise {rank} 3")
    job.wait_for(r"^step +2/")
    since = time.monotonic()
    ended = _ended(job, since, 1, f"rank {rank} failed: exit code 1", "RuntimeError: struck")
    return Row(
        f"a Python exception on rank {rank}",
        ended.seconds,
        "all ended, rank and its last lines named, no process left",
        ended.line,
    )


def node_gone(folder: Path, reference: Reference) -> Row:
    """Two launchers; that of node 1 and its ranks are killed."""
    port = str(free_port())
    nodes = [
        Job(
            folder,
            f"node-{node}",
            *MODEL,
            "--train_steps",
            "100000",
            "--nnodes",
            "2",
            "--nproc_per_node",
            "1",
            "--nums_split",
            "2",
            "--node_rank",
            str(node),
            "--master_addr",
            "127.0.0.1",
            "--master_port",
            port,
            "--heartbeat_timeout",
            "10",
        )
        for node in (0, 1)
    ]
    said = nodes[0].wait_for(r"^step +3/")
    assert "a node that is silent for 10 s ends the job" in said
    struck = time.monotonic()
    nodes[1].kill()
    nodes[1].end()
    ended = _ended(nodes[0], struck, 1, "node 1")
    assert not port_listens(int(port)) and not port_listens(int(port) + 1)
    return Row(
        "a node is gone (its launcher and ranks killed)",
        ended.seconds,
        "the other node ended, no port held",
        ended.line,
    )


def restarted(folder: Path, reference: Reference, layout=PP2, rank: int = 1) -> Row:
    job = Job(
        folder,
        "restarted",
        *FLAGS,
        *layout,
        "--save_every",
        "3",
        "--max_restarts",
        "2",
        faults=f"kill {rank} 8",
        once=folder / "struck",
    )
    ended = job.end()
    assert ended.code == 0 and "restart 1 of 2" in ended.said and not ended.orphans, ended.said
    assert curve(job.directory) == reference(*layout)
    again = next(line for line in ended.said.splitlines() if "restart 1 of 2" in line)
    return Row(
        "SIGKILL of a rank, `--max_restarts 2`",
        ended.seconds,
        "restarted by itself, the curve is the same to the bit",
        again,
    )


def repeating(folder: Path, reference: Reference) -> Row:
    job = Job(folder, "repeating", *FLAGS, *PP2, "--save_every", "3", "--max_restarts", "5", faults="raise 1 5")
    ended = job.end()
    assert ended.code == 1 and ended.said.count("restart ") == 1 and "not restarted" in ended.said, ended.said
    line = next(line for line in ended.said.splitlines() if "not restarted" in line)
    return Row(
        "a fault that comes back at the same step, `--max_restarts 5`",
        ended.seconds,
        "given up after one restart",
        line,
    )


def interrupted(folder: Path, reference: Reference, number: int = signal.SIGTERM) -> Row:
    """A signal to the launcher amid training; then the run goes on."""
    flags = [*FLAGS, *PP2, "--resume", "auto", "--save_every", "5"]
    job = Job(folder, f"interrupted-{number}", *flags)
    job.wait_for(r"^step +2/")
    struck = time.monotonic()
    os.kill(job.process.pid, number)
    ended = _ended(job, struck, 128 + number, "saved      step_", "finishing the step and saving")
    assert Job(folder, f"interrupted-{number}", *flags).end().code == 0
    assert curve(job.directory) == reference(*PP2)
    line = next(line for line in ended.said.splitlines() if "finishing the step" in line)
    return Row(
        signal.Signals(number).name,
        ended.seconds,
        "step finished, saved; the resumed curve is the same to the bit",
        line,
    )


# --- starting


def refused(folder: Path, name: str, code: int, limit: float, *flags: str, directory: Optional[Path] = None) -> Row:
    job = Job(folder, name.replace(" ", "-"), *FLAGS, *flags, directory=directory)
    ended = job.end(limit=limit + 20)
    assert ended.code == code and ended.seconds < limit and not ended.orphans, (ended.code, ended.seconds, ended.said)
    assert "Traceback" not in ended.said and ended.line, ended.said
    return Row(name, ended.seconds, f"one line, exit code {code}", ended.line)


def start_faults(folder: Path, reference: Reference) -> List[Row]:
    """What is wrong before any rank could train; each within the limit that is printed (here 5 s)."""
    port = str(free_port())
    node = ["--nnodes", "2", "--nproc_per_node", "1", "--nums_split", "2", "--master_port", port, "--node_timeout", "5"]
    rows = [
        refused(folder, "master unreachable", 2, 20, *node, "--node_rank", "1", "--master_addr", "127.0.0.1"),
        refused(folder, "a node that never comes", 2, 20, *node, "--node_rank", "0", "--master_addr", "127.0.0.1"),
        refused(folder, "wrong node rank", 2, 20, *node, "--node_rank", "2", "--master_addr", "127.0.0.1"),
    ]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        rows.append(refused(folder, "port taken", 2, 20, *PP2, "--master_port", str(taken.getsockname()[1])))
    first = Job(folder, "sizes-0", *FLAGS, *node, "--node_rank", "0", "--master_addr", "127.0.0.1")
    rows.append(
        refused(
            folder,
            "world sizes that disagree",
            2,
            20,
            *node,
            "--nproc_per_node",
            "2",
            "--node_rank",
            "1",
            "--master_addr",
            "127.0.0.1",
        )
    )
    assert first.end(limit=30).code == 2
    return rows


# --- disks and checkpoints


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """A file system of that size. Raises ``OSError`` where one may not be mounted."""
    place = folder / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(place)],
        stderr=subprocess.PIPE,
        text=True,
    )
    if made.returncode:
        raise OSError(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)])


def disk_full(folder: Path, reference: Reference) -> Row:
    """Room for one checkpoint and a half; it grows while the run is at its second."""
    with small_disk(folder, 8) as place:
        job = Job(
            place,
            "run",
            *MODEL,
            *ONE,
            "--train_steps",
            "30",
            "--save_every",
            "10",
            "--async_save",
            "false",
            "--keep",
            "1",
        )
        said = job.wait_for("^NOT SAVED")
        assert checkpoints(job.directory) == ["step_0000010"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        ended = job.end()
        line = next(line for line in said.splitlines() if line.startswith("NOT SAVED"))
        assert ended.code == 0 and "No space left on device" in line, ended.said
        assert checkpoints(job.directory) == ["step_0000030"]
    return Row(
        "disk full while saving", 0.0, "training went on, nothing older deleted, the next checkpoint saved", line
    )


def damaged(folder: Path, reference: Reference) -> List[Row]:
    """One run with checkpoints 4, 8 and 12 loses its newest ones in several ways; then it goes on from what is
    whole.
    """
    job = Job(folder, "damaged", *FLAGS, *PP2, "--save_every", "4", "--stop_at", "8")
    assert job.end().code == 0
    path = job.directory / "checkpoints" / "step_0000008"
    resume = [*FLAGS, *PP2, "--resume"]
    rows = []
    shard = next(path.glob("optimizer-*.safetensors"))
    content = shard.read_bytes()
    for name, change in (
        ("one flipped byte", lambda: shard.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])),
        ("a missing shard", shard.unlink),
    ):
        change()
        ended = Job(folder, "x", *resume, str(path)).end()
        assert ended.code == 2 and "Traceback" not in ended.said, ended.said
        rows.append(
            Row(f"a checkpoint with {name}, named", ended.seconds, "refused in one line, exit code 2", ended.line)
        )
        shard.write_bytes(content)
    ended = Job(folder, "x", *resume, str(path), "--num_hidden_layers", "2").end()
    assert ended.code == 2 and "is of another model" in ended.line, ended.said
    rows.append(Row("a checkpoint of another model", ended.seconds, "refused in one line, exit code 2", ended.line))
    shard.write_bytes(content[:-1])
    ended = Job(folder, "damaged", *resume, "auto").end()
    assert ended.code == 0 and "passed over" in ended.said and "step 4 of 12" in ended.said, ended.said
    assert curve(job.directory) == reference(*PP2)
    line = next(line for line in ended.said.splitlines() if "passed over" in line)
    rows.append(
        Row(
            "the newest checkpoint is cut off, `--resume auto`",
            ended.seconds,
            "went on from the one before, the same curve to the bit",
            line,
        )
    )
    return rows


def read_only(folder: Path, reference: Reference) -> Row:
    with small_disk(folder, 8) as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        return refused(folder, "a read-only run directory", 2, 20, *ONE, directory=place / "run")


def not_a_number(folder: Path, reference: Reference) -> Row:
    job = Job(folder, "nan", *FLAGS, *PP2, "--save_every", "2", faults="nan 5")
    ended = job.end()
    assert ended.code == 1 and "the loss is nan" in ended.line and "at step 5, with the records " in ended.line, (
        ended.said
    )
    assert (
        checkpoints(job.directory) == ["step_0000002", "step_0000004"] and newest(job.directory).name == "step_0000004"
    )
    return Row(
        "a loss that is not a number",
        ended.seconds,
        "stopped with step and records; no checkpoint holds it",
        ended.line,
    )


#: What benchmarks/reliability.py runs beside the kills and the fuzzer.
CASES: List[Callable] = [
    rank_killed,
    lambda folder, reference: rank_killed(folder, reference, 0),
    rank_raises,
    lambda folder, reference: rank_raises(folder, reference, 0),
    node_gone,
    restarted,
    repeating,
    interrupted,
    lambda folder, reference: interrupted(folder, reference, signal.SIGINT),
    start_faults,
    disk_full,
    damaged,
    read_only,
    not_a_number,
]
