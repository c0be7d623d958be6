"""Ranks of plain Python for tests of the launcher: a script that behaves as told, and the folder it works in."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeloom.core.launch.launcher import LaunchSpec, free_port

ROOT = Path(__file__).resolve().parent.parent

# A rank: notes its pid and environment, listens if it is rank 0, then does what argv[2] says for its number.
RANK = r"""
import json, os, resource, signal, socket, subprocess, sys, time
folder, plan = sys.argv[1], json.loads(sys.argv[2])
rank = os.environ["RANK"]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
def write(name, text):
    with open(os.path.join(folder, name + ".tmp"), "w") as f:
        f.write(text)
    os.rename(f.name, os.path.join(folder, name))
write("pid_" + rank, str(os.getpid()))
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
port = int(os.environ["MASTER_PORT"])
if rank == "0":
    time.sleep(plan.get("late", 0))
    if plan.get("listen", True):
        server.bind(("127.0.0.1", port)); server.listen(8)
        write("listening", "")
write("env_" + rank, json.dumps(dict(os.environ, listening=os.path.exists(os.path.join(folder, "listening")))))
todo = plan.get(rank, plan.get("all", "end"))
def all_started():
    while not all(os.path.exists(os.path.join(folder, "env_%d" % r)) for r in range(int(os.environ["WORLD_SIZE"]))):
        time.sleep(0.005)
if todo == "end" and rank == "0":
    all_started()
elif todo == "wait":
    time.sleep(60)
elif todo == "wait in run_rank":
    from pipeloom.core.launch.rank import run_rank
    def linger(): time.sleep(60)
    run_rank(linger)
elif todo == "wait with a child":
    write("pid_child_" + rank, str(subprocess.Popen(["sleep", "60"]).pid)); time.sleep(60)
elif todo == "abort when another has gone":
    while not os.path.exists(os.path.join(folder, "gone")): time.sleep(0.001)
    os.abort()
elif todo == "raise":
    from pipeloom.core.launch.rank import run_rank
    def main():
        all_started(); print("before the fault"); write("gone", ""); time.sleep(plan.get("dying", 0))
        raise RuntimeError("the cup fell")
    run_rank(main)
elif todo == "refuse":
    from pipeloom.core.launch.rank import run_rank
    from pipeloom.core.base.errors import UsageError
    def main():
        time.sleep(plan.get("think", 0) if rank == "0" else 0)
        raise UsageError("--shape is square" if rank == "0" else "--shape is not round")
    run_rank(main)
elif todo == "killed":
    write("pid_child_" + rank, str(subprocess.Popen(["sleep", "60"]).pid))
    all_started(); os.kill(os.getpid(), signal.SIGKILL)
elif todo == "save on SIGTERM":
    signal.signal(signal.SIGTERM, lambda *_: (write("saved_" + rank, ""), os._exit(0)))
    write("ready", ""); time.sleep(60)
elif todo == "ignore SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN); write("ready", ""); time.sleep(60)
elif todo == "train":
    # plan: steps, pace (seconds of a step, by rank), fault {rank, step, how, times}, busy (seconds, before the fault)
    from pipeloom.core.launch.control.rank_link import RankLink
    from pipeloom.core.launch.rank import run_rank
    def fault(link, how):
        if "busy" in plan: link.busy("a long look", plan["busy"])
        if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if how == "stop": os.kill(os.getpid(), signal.SIGSTOP)
        if how == "raise": raise RuntimeError("the cup fell")
        if how == "sleep":
            link.page.enter("reading data", alone=True); time.sleep(plan["sleep"])
    def main():
        starts = os.path.join(folder, "starts_" + rank)
        with open(starts, "a") as f: f.write(json.dumps([port, os.environ.get("PIPELOOM_JOB")]) + "\n")
        number = len(open(starts).readlines())
        def has_started(r):
            path = os.path.join(folder, "starts_%d" % r)
            return os.path.exists(path) and len(open(path).readlines()) >= number
        while plan.get("all") == "train" and not all(map(has_started, range(int(os.environ["WORLD_SIZE"])))):
            time.sleep(0.005)
        link = RankLink.from_environment(plan.get("stop_at"))
        assert link.connected and "PIPELOOM_CONTROL_FD" not in os.environ
        last, bad = 0, plan.get("fault", {})
        for step in range(plan.get("first", {}).get(str(number), 1), plan.get("steps", 10 ** 6) + 1):
            if not link.begin_step(step): break
            last = step
            write("begun_" + rank, str(step))
            strikes = bad.get("rank") == rank and bad["step"] == step and number <= bad.get("times", 1)
            if strikes: fault(link, bad["how"])
            time.sleep(plan.get("pace", {}).get(rank, 0.005))
        write("last_" + rank, str(last))
        if plan.get("hang at the end") == rank: time.sleep(60)
    run_rank(main)
"""

DRIVER = """
import json, pathlib, sys
from pipeloom.core.base.errors import PipeloomError
from pipeloom.core.launch.control import hub, supervisor
from pipeloom.core.launch.launcher import LaunchSpec, NodesSpec, launch
# The waits for another launcher, which here was started with this one.
hub._MISFIT_SECONDS = supervisor._DOUBLE_SECONDS = 0.7
s = json.loads(sys.argv[1]); s["log_dir"] = pathlib.Path(s["log_dir"])
if "nodes" in s: s["nodes"] = NodesSpec(**s["nodes"])
if "resume" in s: resume = s.pop("resume"); s["choose_resume"] = lambda: pathlib.Path(resume)
try:
    sys.exit(launch(LaunchSpec(**s)))
except PipeloomError as error:
    print("pipeloom: error:", error)
    sys.exit(error.exit_code)
"""


class Site:
    """A folder with the rank script, and what its ranks left there."""

    def __init__(self, folder: Path):
        self.folder, self.drivers = folder, []
        (folder / "rank.py").write_text(RANK)

    def fields(self, plan, world=2, ranks=None, **more):
        command = [sys.executable, str(self.folder / "rank.py"), str(self.folder), json.dumps(plan)]
        fields = dict(
            command=command,
            ranks=list(range(world)) if ranks is None else ranks,
            world_size=world,
            nproc_per_node=world,
            master_addr="127.0.0.1",
            master_port=free_port(),
            log_dir=str(self.folder / "logs"),
            env={"PYTHONPATH": str(ROOT)},
            start_timeout=10,
        )
        return {**fields, **more}

    def spec(self, plan, **more):
        fields = self.fields(plan, **more)
        return LaunchSpec(**{**fields, "log_dir": Path(fields["log_dir"])})

    def driver(self, plan, until=None, **more):
        """A launcher in a process of its own, once the file ``until`` is there."""
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(self.fields(plan, **more))],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.drivers.append(process)
        if until is not None:
            wait_for(lambda: (self.folder / until).exists())
        return process

    def node(self, node, port, plan, nnodes=2, per_node=1, nodes=(), until=None, **more):
        """The launcher of one of several nodes; ``nodes``: fields of its ``NodesSpec`` that differ."""
        said = dict(
            node_rank=node, nnodes=nnodes, nproc_per_node=per_node, address="127.0.0.1", port=port + 1, node_timeout=10
        )
        ranks = list(range(node * per_node, (node + 1) * per_node))
        return self.driver(
            plan,
            until,
            world=nnodes * per_node,
            ranks=ranks,
            nproc_per_node=per_node,
            master_port=port,
            nodes={**said, **dict(nodes)},
            **more,
        )

    def number(self, name):
        """What a rank has written into ``name``; 0 while it has not."""
        path = self.folder / name
        return int(path.read_text()) if path.exists() else 0

    def starts(self, rank):
        """(port, resume) of each start of a rank."""
        return [tuple(json.loads(line)) for line in (self.folder / f"starts_{rank}").read_text().splitlines()]

    def close(self):
        """Leave nothing running, not even after a test that failed."""
        for process in self.drivers:
            process.kill()
            process.stdout.close()
            process.wait()
        for pid in filter(runs, self.pids()):
            os.kill(pid, signal.SIGKILL)

    def pids(self):
        return [int(p.read_text()) for p in self.folder.glob("pid_*") if p.suffix != ".tmp"]

    def env(self, rank):
        return json.loads((self.folder / f"env_{rank}").read_text())


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def assert_nothing_left(site, count):
    assert len(site.pids()) == count
    wait_for(lambda: not any(map(runs, site.pids())), 2)
    for pid in site.pids():
        with pytest.raises(ChildProcessError):  # no zombie either
            os.waitpid(pid, os.WNOHANG)
