"""Jobs of plain Python ranks that stop together, hang, and start again; one node."""

import os
import re
import signal
import time

import pytest
from launch_site import Site, assert_nothing_left, runs, wait_for

from pipeloom.core.launch.control import signals
from pipeloom.core.launch.launcher import launch

TRAIN = {"all": "train"}


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()


def end_of(process, seconds=30):
    output = process.communicate(timeout=seconds)[0]
    return process.returncode, output


def training(site, plan=(), **more):
    """A job that trains without end, when all its ranks have begun."""
    process = site.driver({**TRAIN, "pace": {"0": 0.02, "1": 0.003}, **dict(plan)}, until="begun_0", **more)
    wait_for(lambda: site.number("begun_1") > 5)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_ranks_after_the_same_step(site, number):
    process = training(site)
    process.send_signal(number)
    code, output = end_of(process)
    assert (code, output) == (
        128 + number,
        f"pipeloom: {number.name}: finishing the step and saving (once more ends at once)\n",
    )
    # Rank 1 is faster and far ahead; rank 0 goes on until it has made the same step.
    assert site.number("last_0") == site.number("last_1") > 5
    assert not any(map(runs, site.pids()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_every_process_stops_as_one(site, number):
    """As Slurm sends it: to the launcher and to the ranks; and as timeout(1) does, twice."""
    process = training(site)
    for pid in [*site.pids(), process.pid, process.pid]:
        os.kill(pid, number)
    code, output = end_of(process)
    assert code == 128 + number and output.count(f"{number.name}: finishing the step") == 1
    assert site.number("last_0") == site.number("last_1") > 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_one_rank_stops_the_job(site, number):
    process = training(site)
    os.kill(site.number("pid_1"), signal.SIGHUP)  # of a terminal, which is the launcher's
    os.kill(site.number("pid_1"), number)
    assert end_of(process)[0] == 128 + number
    assert site.number("last_0") == site.number("last_1") > 5


@pytest.mark.parametrize(
    "more, signals, said",
    [
        (dict(stop_limit=60), 2, ""),
        (dict(stop_limit=1.5), 1, "error: rank 1 had not stopped 1.5 s after SIGINT: killed"),
    ],
    ids=["once more", "limit"],
)
def test_a_rank_that_does_not_finish_its_step_is_killed(site, more, signals, said):
    process = training(site, {"hang at the end": "1"}, **more)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    code, output = end_of(process)
    assert code == 130 and said in output
    assert not any(map(runs, site.pids()))


def test_a_signal_before_all_have_begun_ends_the_ranks_at_once(site):
    process = site.driver({"0": "train", "1": "wait"}, until="begun_0", stop_grace=30)
    wait_for(lambda: site.number("pid_1"))
    os.kill(site.number("pid_1"), signal.SIGUSR1)  # it has not said yet what that means to it
    process.terminate()
    assert end_of(process, 25) == (143, "pipeloom: SIGTERM: stopping the ranks (once more kills them at once)\n")


@pytest.mark.fast
def test_what_comes_twice_at_once_is_one_signal(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with signals.Signals() as noted:
        for number, seconds, count in (
            (signal.SIGUSR1, 0, 1),
            (signal.SIGUSR1, 0.01, 1),
            (signal.SIGTERM, 0.05, 1),
            (signal.SIGUSR2, 0.2, 2),
        ):
            now[0] = 100 + seconds
            signal.raise_signal(number)
            assert noted.count == count
        assert noted.number == signal.SIGUSR2
    codes = [code for code in range(-15, 150) if signals.asked_to_stop(code)]
    assert codes == [-15, -12, -10, -2, -1, 129, 130, 138, 140, 143]


def test_stop_at_ends_after_that_step(site):
    assert launch(site.spec({**TRAIN, "stop_at": 4, "steps": 9})) == 0
    assert site.number("last_0") == site.number("last_1") == 4
    assert_nothing_left(site, 2)


def test_a_job_whose_ranks_no_longer_begin_a_step_is_ended(site, capfd):
    plan = {**TRAIN, "steps": 50, "fault": {"rank": "1", "step": 3, "how": "sleep"}, "sleep": 60}
    plan["hang at the end"] = "0"
    assert launch(site.spec(plan, step_timeout=2.5, end_timeout=60)) == 1
    line, *details = capfd.readouterr().err.splitlines()
    assert re.fullmatch(
        r"pipeloom: error: no rank has begun a step for 2.5 s \(--step_timeout\): rank 1 is behind: in step 3, "
        rf"reading data, in rank.py:\d+ fault; stacks: {site.folder}/logs/stacks_of_rank_\*.txt",
        line,
    )
    assert details[0].startswith("  | rank 0: in step 50, making") and details[1].startswith(
        "  | rank 1: in step 3, read"
    )
    for rank, function in ((0, "main"), (1, "fault")):
        stacks = (site.folder / "logs" / f"stacks_of_rank_{rank}.txt").read_text()
        assert f" in {function}\n" in stacks and re.search(r"\n  python\S* \d+ +S +\d+\.\d\d +\d+%", stacks)
    assert_nothing_left(site, 2)


def test_a_rank_that_never_begins_leaves_its_stacks_too(site, capfd):
    """Rank 1 waits before it has a link; rank 0 is stopped by a signal, and cannot say where."""
    plan = {"0": "train", "1": "wait in run_rank", "fault": {"rank": "0", "step": 1, "how": "stop"}}
    assert launch(site.spec(plan, step_timeout=1.0)) == 1
    line, zero, one = capfd.readouterr().err.splitlines()
    assert "rank 0 is behind: in step 1, " in line and "stopped by a signal (state T); stacks: " in line
    assert "(a stopped process cannot leave its stacks)" in zero and re.search(
        r"before its first step, starting, in rank.py:\d+ linger", one
    )
    assert "a stopped process" in (site.folder / "logs" / "stacks_of_rank_0.txt").read_text()


def test_a_long_phase_that_was_announced_is_no_hang(site):
    plan = {**TRAIN, "steps": 5, "fault": {"rank": "1", "step": 3, "how": "sleep"}, "sleep": 3.5, "busy": 20}
    assert launch(site.spec(plan, step_timeout=2.5, end_timeout=60)) == 0
    assert site.number("last_1") == 5


@pytest.mark.parametrize(
    "how, said",
    [
        ("kill", "rank 1 failed: killed by SIGKILL"),
        ("stop", "rank 1 is behind: in step 3, making the step, stopped by a signal (state T); stacks: "),
    ],
)
def test_a_fault_is_followed_by_a_restart_from_the_point_chosen_anew(site, capfd, how, said):
    points = iter([site.folder / "step_2"])
    plan = {**TRAIN, "steps": 6, "pace": {"0": 0.02}, "first": {"2": 3}, "fault": {"rank": "1", "step": 3, "how": how}}
    assert (
        launch(
            site.spec(
                plan, max_restarts=2, choose_resume=lambda: next(points), port_is_free_to_choose=True, step_timeout=2.5
            )
        )
        == 0
    )
    error = capfd.readouterr().err
    assert said in error and error.endswith("pipeloom: restart 1 of 2: from step_2\n")
    (first, before), (second, after) = site.starts(1)
    assert (before, after) == ("", str(site.folder / "step_2")) and first != second
    assert site.number("last_0") == site.number("last_1") == 6
    assert not any(map(runs, site.pids()))


def test_a_fault_that_comes_back_at_the_same_step_is_not_tried_again(site, capfd):
    plan = {**TRAIN, "pace": {"0": 60}, "steps": 6, "fault": {"rank": "1", "step": 3, "how": "raise", "times": 9}}
    assert launch(site.spec(plan, max_restarts=5)) == 1
    error = capfd.readouterr().err
    assert "restart 1 of 5: from the beginning\n" in error and error.endswith(
        "pipeloom: failed again at step 3: not restarted\n"
    )
    (first, _), (second, _) = site.starts(1)
    assert first == second  # the user's port


@pytest.mark.parametrize(
    "plan, code", [({"all": "refuse"}, 2), ({"1": "raise", "all": "wait"}, 1)], ids=["usage", "no restarts"]
)
def test_no_restart(site, capfd, plan, code):
    assert launch(site.spec(plan, max_restarts=3 if code == 2 else 0)) == code
    assert "pipeloom: restart" not in capfd.readouterr().err


def test_a_signal_during_a_restart_ends_it(site):
    plan = {**TRAIN, "fault": {"rank": "1", "step": 3, "how": "raise"}}
    process = site.driver(plan, until="begun_1", max_restarts=3)
    wait_for(lambda: len(site.starts(1)) == 2)
    process.terminate()
    assert end_of(process)[0] == 143
    assert len(site.starts(1)) == 2 and not any(map(runs, site.pids()))
