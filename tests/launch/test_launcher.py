"""The launcher with ranks of plain Python: what they are told, and what is left when one of them fails."""

import os
import re
import signal
import socket
import threading
import time

import pytest
from launch_site import Site, assert_nothing_left, runs, wait_for

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.launch import processes
from pipeloom.core.launch.control.coordinator import culprit_of
from pipeloom.core.launch.launcher import launch
from pipeloom.core.launch.ports import is_own_address
from pipeloom.plugins.executors.oneflow import OneFlow, processor


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()


def test_ranks_get_their_environment_and_rank_0_listens_first(site, monkeypatch, capfd):
    monkeypatch.setattr(processor, "_has_avx2_and_fma", lambda: True)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"):
        monkeypatch.delenv(name, raising=False)
    own = {"EXTRA": "yes", "RANK": "17"}
    inherited = OneFlow().environment(os.environ)
    spec = site.spec({"late": 0.3}, world=3, env=own, inherited=inherited, nproc_per_node=3)
    assert launch(spec) == 0
    for rank in range(3):
        env = site.env(rank)
        told = [env[n] for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
        assert told == [str(rank), str(rank), "3", "3", "127.0.0.1", str(spec.master_port)]
        assert (env["PIPELOOM_JOB"], env["EXTRA"]) == ("", "yes")
        assert (env["OMP_NUM_THREADS"], env["OPENBLAS_NUM_THREADS"]) == ("3", "1")
        assert env["OPENBLAS_CORETYPE"] == "HASWELL"
        assert env["listening"]
    assert_nothing_left(site, 3)
    assert capfd.readouterr().err == ""


def test_ranks_get_no_proxy_and_nothing_starts_without_loopback(site, monkeypatch):
    for name in ("http_proxy", "HTTPS_PROXY", "grpc_proxy", "no_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert launch(site.spec({}, world=1)) == 0
    assert not [name for name in site.env(0) if "proxy" in name.lower()]
    monkeypatch.setattr("pipeloom.core.launch.launcher.local_fault", lambda ranks: f"no connection of {ranks}")
    with pytest.raises(UsageError, match="^no connection of 2$"):
        launch(site.spec({}))
    assert not (site.folder / "pid_1").exists()


def test_few_open_files_are_raised_or_refused(monkeypatch):
    """Ranks that cannot open a connection hang."""
    set_to = []
    monkeypatch.setattr(processes.resource, "setrlimit", lambda which, limits: set_to.append(limits))
    for limits in ((20, 100000), (20, 500), (8192, 100000), (20, -1)):
        monkeypatch.setattr(processes.resource, "getrlimit", lambda which, limits=limits: limits)
        processes.allow_open_files(2)
    assert set_to == [(4096, 100000), (500, 500), (4096, -1)]
    monkeypatch.setattr(processes.resource, "getrlimit", lambda which: (20, 90))
    with pytest.raises(UsageError, match=r"^90 open files at most \(ulimit -n\), a job of 8 ranks needs 128: raise"):
        processes.allow_open_files(8)


def test_the_users_blas_kernel_is_kept_and_other_processors_get_none(monkeypatch):
    monkeypatch.setattr(processor, "_has_avx2_and_fma", lambda: True)
    assert OneFlow().environment({"OPENBLAS_CORETYPE": "ZEN"})["OPENBLAS_CORETYPE"] == "ZEN"
    monkeypatch.setattr(processor, "_has_avx2_and_fma", lambda: False)
    assert "OPENBLAS_CORETYPE" not in OneFlow().environment({})


def test_which_addresses_are_this_hosts():
    assert is_own_address("127.0.0.1") and is_own_address("localhost")
    assert not is_own_address("192.0.2.1") and not is_own_address("no-such-host.invalid")


def test_a_killed_rank_is_named_and_all_end(site, capfd):
    began = time.monotonic()
    code = launch(
        site.spec(
            {"1": "killed", "2": "wait with a child", "all": "abort when another has gone"}, world=4, nproc_per_node=1
        )
    )
    assert code == 1 and time.monotonic() - began < 5
    error = capfd.readouterr().err
    assert (
        error.startswith("pipeloom: error: rank 1 failed: killed by SIGKILL") and "rank_1.log; it said nothing" in error
    )
    assert error.count("\n") == 1
    assert len(site.pids()) >= 4 + 1  # rank 2 may have been stopped before its child was noted
    wait_for(lambda: not any(map(runs, site.pids())), 2)


def test_an_exception_is_named_with_its_last_lines_not_its_consequences(site, capfd):
    plan = {"2": "raise", "dying": 0.2, "all": "abort when another has gone"}
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
    dead = [{"rank": r, "code": c} for r, c in enumerate([-6, 2, 1, -9])]
    assert culprit_of(dead)["rank"] == 2
    assert culprit_of(dead[:1])["rank"] == 0


def test_rank_0_failing_points_to_the_console(site, capfd):
    assert launch(site.spec({"0": "raise", "all": "wait"}, world=2)) == 1
    error = capfd.readouterr().err
    assert error.endswith(
        "RuntimeError: the cup fell\npipeloom: error: rank 0 failed: exit code 1; what it said is above\n"
    )


@pytest.mark.parametrize(
    "plan, shape",
    [
        ({"0": "refuse", "1": "wait"}, "square"),
        ({"all": "refuse", "think": 0.3}, "square"),
        ({"0": "wait", "1": "refuse"}, "not round"),
    ],
    ids=["rank 0", "all, rank 0 last", "rank 1 only"],
)
def test_a_usage_error_is_one_line_and_code_2(site, capfd, plan, shape):
    assert launch(site.spec(plan)) == 2
    assert capfd.readouterr().err == f"pipeloom: error: --shape is {shape}\n"
    assert not any(map(runs, site.pids()))


def test_a_taken_port_is_refused_before_anything_starts(site):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken"):
            launch(site.spec({}, master_port=port))
    assert site.pids() == []


def test_a_rank_0_that_never_listens_is_one_line_within_the_limit(site, capfd):
    began = time.monotonic()
    assert launch(site.spec({"listen": False, "all": "wait"}, start_timeout=0.5)) == 1
    line, what = capfd.readouterr().err.splitlines()
    assert re.search(r"rank 0 did not listen on 127.0.0.1:\d+ within 0.5 s; stacks: ", line)
    assert "rank 0: before its first step, starting" in what
    assert time.monotonic() - began < 2
    assert_nothing_left(site, 1)


def test_bad_places_are_errors(site):
    (site.folder / "file").write_text("")
    with pytest.raises(UsageError, match="log folder"):
        launch(site.spec({}, log_dir=str(site.folder / "file")))
    with pytest.raises(RunError, match="no-such-command"):
        launch(site.spec({}, command=["/no-such-command"]))
    with pytest.raises(ValueError, match="distinct"):
        site.spec({}, ranks=[0, 0])
    with pytest.raises(ValueError, match="where the others are"):
        site.spec({}, ranks=[1])


def test_a_rank_that_does_not_end_with_the_others_is_killed(site, capfd):
    assert launch(site.spec({"0": "wait"}, end_timeout=0.3)) == 1
    assert "rank 0 had not ended 0.3 s after rank 1 finished" in capfd.readouterr().err
    assert_nothing_left(site, 2)


def test_ranks_die_with_a_launcher_that_is_killed(site):
    process = site.driver({"all": "wait"}, until="env_1")
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(runs, site.pids())), 2)
    assert len(site.pids()) == 2
    process.stdout.close()


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


def test_launch_restores_the_signal_handlers(site):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert launch(site.spec({}, world=1)) == 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert threading.active_count() == 1
