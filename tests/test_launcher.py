"""The launcher with ranks of plain Python: what they are told, and what is left when one of them fails."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeloom.core import devices, launcher, processes
from pipeloom.core.errors import RunError, UsageError
from pipeloom.core.launcher import LaunchSpec, free_port, launch

pytestmark = pytest.mark.fast

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
elif todo == "wait with a child":
    write("pid_child_" + rank, str(subprocess.Popen(["sleep", "60"]).pid)); time.sleep(60)
elif todo == "abort when another has gone":
    while not os.path.exists(os.path.join(folder, "gone")): time.sleep(0.001)
    os.abort()
elif todo == "raise":
    from pipeloom.core.rank import run_rank
    def main():
        all_started(); print("before the fault"); write("gone", ""); raise RuntimeError("the cup fell")
    run_rank(main)
elif todo == "refuse":
    from pipeloom.core.rank import run_rank
    from pipeloom.core.errors import UsageError
    def main():
        time.sleep(plan.get("think", 0)); raise UsageError("--shape is square")
    run_rank(main)
elif todo == "killed":
    all_started(); os.kill(os.getpid(), signal.SIGKILL)
elif todo == "save on SIGTERM":
    signal.signal(signal.SIGTERM, lambda *_: (write("saved_" + rank, ""), os._exit(0))); write("ready", ""); time.sleep(60)
elif todo == "ignore SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN); write("ready", ""); time.sleep(60)
"""

DRIVER = """
import json, pathlib, sys
from pipeloom.core.launcher import LaunchSpec, launch
s = json.loads(sys.argv[1]); s["log_dir"] = pathlib.Path(s["log_dir"])
sys.exit(launch(LaunchSpec(**s)))
"""


class Site:
    """A folder with the rank script, and what its ranks left there."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "rank.py").write_text(RANK)

    def fields(self, plan, world=2, ranks=None, **more):
        command = [sys.executable, str(self.folder / "rank.py"), str(self.folder), json.dumps(plan)]
        fields = dict(
            command=command, ranks=list(range(world)) if ranks is None else ranks, world_size=world,
            nproc_per_node=world, master_addr="127.0.0.1", master_port=free_port(),
            log_dir=str(self.folder / "logs"), env={"PYTHONPATH": str(ROOT)}, start_timeout=10,
        )
        return {**fields, **more}

    def spec(self, plan, **more):
        fields = self.fields(plan, **more)
        return LaunchSpec(**{**fields, "log_dir": Path(fields["log_dir"])})

    def driver(self, plan, until, **more):
        """A launcher in a process of its own, once the file ``until`` is there."""
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(self.fields(plan, **more))],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        wait_for(lambda: (self.folder / until).exists())
        return process

    def pids(self):
        return [int(p.read_text()) for p in self.folder.glob("pid_*") if p.suffix != ".tmp"]

    def env(self, rank):
        return json.loads((self.folder / f"env_{rank}").read_text())


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    for pid in filter(runs, site.pids()):  # only if the launcher is broken
        os.kill(pid, signal.SIGKILL)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=8.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def assert_nothing_left(site, count):
    assert len(site.pids()) == count
    wait_for(lambda: not any(map(runs, site.pids())), 2)
    with pytest.raises(ChildProcessError):  # no zombie either
        os.waitpid(-1, os.WNOHANG)


def test_ranks_get_their_environment_and_rank_0_listens_first(site, monkeypatch, capfd):
    monkeypatch.setattr(processes, "_has_avx2_and_fma", lambda: True)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"):
        monkeypatch.delenv(name, raising=False)
    spec = site.spec({"late": 0.3}, world=3, env={"EXTRA": "yes", "RANK": "17"}, nproc_per_node=3)
    assert launch(spec) == 0
    for rank in range(3):
        env = site.env(rank)
        told = [env[n] for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
        assert told == [str(rank), str(rank), "3", "3", "127.0.0.1", str(spec.master_port)]
        assert (env["PIPELOOM_LAUNCHED"], env["EXTRA"]) == ("1", "yes")
        assert (env["OMP_NUM_THREADS"], env["OPENBLAS_NUM_THREADS"]) == ("3", "1")
        assert env["OPENBLAS_CORETYPE"] == "HASWELL"
        assert env["listening"]
    assert_nothing_left(site, 3)
    assert capfd.readouterr().err == ""


def test_the_users_blas_kernel_is_kept_and_other_processors_get_none(monkeypatch):
    monkeypatch.setattr(processes, "_has_avx2_and_fma", lambda: True)
    assert processes.tuned_environment({"OPENBLAS_CORETYPE": "ZEN"})["OPENBLAS_CORETYPE"] == "ZEN"
    monkeypatch.setattr(processes, "_has_avx2_and_fma", lambda: False)
    assert "OPENBLAS_CORETYPE" not in processes.tuned_environment({})


def test_another_node_joins_a_master_that_listens(site):
    with socket.create_server(("127.0.0.1", 0)) as master:
        assert launch(site.spec({}, world=4, ranks=[2, 3], master_port=master.getsockname()[1])) == 0
    assert [site.env(r)["LOCAL_RANK"] for r in (2, 3)] == ["0", "1"]


def test_a_killed_rank_is_named_and_all_end(site, capfd):
    began = time.monotonic()
    code = launch(site.spec({"1": "killed", "2": "wait with a child", "all": "abort when another has gone"}, world=4))
    assert code == 1 and time.monotonic() - began < 5
    error = capfd.readouterr().err
    assert "rank 1 failed: killed by SIGKILL" in error and "rank_1.log; it said nothing" in error
    assert error.count("\n") == 1
    wait_for(lambda: not any(map(runs, site.pids())), 2)


def test_an_exception_is_named_with_its_last_lines_not_its_consequences(site, capfd):
    plan = {"2": "raise", "all": "abort when another has gone"}
    logs = site.folder / "logs"
    logs.mkdir()
    (logs / "rank_2.log").write_text("of an earlier run\n")
    assert launch(site.spec(plan, world=4)) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"pipeloom: error: rank 2 failed: exit code 1; log: {logs}/rank_2.log; its last lines:"
    assert lines[1] == "  | before the fault" and lines[-1] == "  | RuntimeError: the cup fell" and len(lines) <= 16
    assert (logs / "rank_2.log").read_text().startswith("of an earlier run\nbefore the fault\n")
    assert_nothing_left(site, 4)


def test_of_ranks_found_dead_together_the_aborted_one_is_not_the_culprit():
    dead = [SimpleNamespace(rank=r, returncode=c) for r, c in enumerate([-6, 2, 1, -9])]
    assert launcher._culprit(dead).rank == 2
    assert launcher._culprit(dead[:1]).rank == 0


def test_rank_0_failing_points_to_the_console(site, capfd):
    assert launch(site.spec({"0": "raise", "all": "wait"}, world=2)) == 1
    error = capfd.readouterr().err
    assert error.endswith("RuntimeError: the cup fell\npipeloom: error: rank 0 failed: exit code 1; what it said is above\n")


@pytest.mark.parametrize("plan", [
    {"0": "refuse", "1": "wait"}, {"all": "refuse", "think": 0.05}, {"0": "wait", "1": "refuse"},
], ids=["rank 0", "all", "rank 1 only"])
def test_a_usage_error_is_one_line_and_code_2(site, capfd, plan):
    assert launch(site.spec(plan)) == 2
    assert capfd.readouterr().err == "pipeloom: error: --shape is square\n"
    assert not any(map(runs, site.pids()))


def test_a_taken_port_is_refused_before_anything_starts(site):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken"):
            launch(site.spec({}, master_port=port))
    assert site.pids() == []


@pytest.mark.parametrize("more, message", [
    (dict(), r"rank 0 did not listen on 127.0.0.1:\d+ within 0.5 s"),
    (dict(ranks=[1]), r"no rank 0 answers at 127.0.0.1:\d+ .* after 0.5 s"),
], ids=["local", "remote"])
def test_a_master_that_never_listens_is_one_line_within_the_limit(site, more, message):
    began = time.monotonic()
    with pytest.raises(RunError, match=message):
        launch(site.spec({"listen": False, "all": "wait"}, start_timeout=0.5, **more))
    assert time.monotonic() - began < 2
    assert_nothing_left(site, 0 if more else 1)


def test_an_unknown_master_and_bad_places_are_usage_errors(site):
    with pytest.raises(UsageError, match="no-such-host.invalid"):
        launch(site.spec({}, ranks=[1], master_addr="no-such-host.invalid", start_timeout=0.5))
    (site.folder / "file").write_text("")
    with pytest.raises(UsageError, match="log folder"):
        launch(site.spec({}, log_dir=str(site.folder / "file")))
    with pytest.raises(RunError, match="no-such-command"):
        launch(site.spec({}, command=["/no-such-command"]))
    with pytest.raises(ValueError, match="distinct"):
        site.spec({}, ranks=[0, 0])


def test_a_rank_that_does_not_end_with_the_others_is_killed(site, capfd):
    assert launch(site.spec({"0": "wait"}, end_timeout=0.3)) == 1
    assert "rank 0 had not ended 0.3 s after rank 1 finished" in capfd.readouterr().err
    assert_nothing_left(site, 2)


def test_ranks_die_with_a_launcher_that_is_killed(site):
    process = site.driver({"all": "wait"}, until="env_1")
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(runs, site.pids())), 2)
    assert len(site.pids()) == 2


def test_sigterm_lets_the_ranks_save(site):
    process = site.driver({"0": "wait", "1": "save on SIGTERM"}, until="ready")
    process.terminate()
    output = process.communicate(timeout=4)[0]
    assert process.returncode == 143 and (site.folder / "saved_1").exists()
    assert output == "pipeloom: SIGTERM: stopping the ranks (once more kills them at once)\n"


@pytest.mark.parametrize("grace, signals", [(0.3, 1), (60, 2)], ids=["grace over", "second Ctrl-C"])
def test_ctrl_c_kills_ranks_that_will_not_stop(site, grace, signals):
    process = site.driver({"0": "wait", "1": "ignore SIGTERM"}, until="ready", stop_grace=grace)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert "SIGINT" in process.communicate(timeout=4)[0] and process.returncode == 130
    assert len(site.pids()) == 2 and not any(map(runs, site.pids()))


@pytest.mark.parametrize("body, code, error", [
    ("pass", 0, ""), ("return 3", 3, ""), ("sys.exit(0)", 0, ""), ("sys.exit('so it is')", 1, "so it is\n"),
    ("raise KeyboardInterrupt", 130, ""), ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, ""),
    ("raise RunError('no more paper')", 1, "pipeloom: error: no more paper\n"),
])
def test_run_rank_ends_the_process_even_when_its_exit_would_hang(body, code, error):
    # The exit handler stands for OneFlow's, which waits for the other ranks.
    script = (
        "import atexit, os, signal, sys, time\nfrom pipeloom.core.errors import RunError\n"
        "from pipeloom.core.rank import run_rank\n"
        f"def main():\n    print('out'); {body}\n"
        "if sys.argv[1:]: atexit.register(time.sleep, 60)\nassert run_rank(main) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script] + ["hang"] * (code != 0), env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", error)


@pytest.mark.parametrize("value, count", [("", 0), ("-1", 0), ("0", 1), ("2,0", 2), ("GPU-a, GPU-b", 2), ("0,-1,1", 1)])
def test_visible_devices_decide_how_many_gpus_there_are(monkeypatch, value, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert devices.count_gpus() == count


def test_without_visible_devices_the_driver_or_its_tool_is_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_DRIVER_GPUS", tmp_path / "gpus")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.count_gpus() == 0
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: B (UUID: y)'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert devices.count_gpus() == 2
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    assert devices.count_gpus() == 1


def test_launch_restores_the_signal_handlers(site):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert launch(site.spec({}, world=1)) == 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert threading.active_count() == 1
