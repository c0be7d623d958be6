"""Real runs that are interrupted: all ranks stop after the same step; a node that dies takes the others along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from unittest import mock

from jobs import NO_LAYERS, ONE_PROCESS, ROOT, TINY, command, environment

from pipeloom.core.launch.launcher import free_port

# Notes the steps that each rank makes, and its last word.
WITNESS = """
import pipeloom

@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    (run.directory / f"step_{run.rank}").write_text(str(step))

@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    (run.directory / f"end_{run.rank}").write_text(f"{run.done_steps} {error}")
"""


def begin(folder, *flags):
    (folder / "witness.py").write_text(WITNESS)
    full = command(*TINY, "--train_steps", "100000", "--nnodes", "2", "--nproc_per_node", "1", *flags, model=NO_LAYERS)
    full[full.index("--plugins") + 1] += ",./witness.py"
    return run(folder, full)


def run(folder, full):
    return subprocess.Popen(
        full, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), cwd=folder
    )


def checkpoints(folder):
    return sorted(int(path.name[5:]) for path in (folder / "run" / "checkpoints").glob("step_*"))


def read_until(process, text):
    for line in process.stdout:
        if line.startswith(text):
            return
    raise AssertionError(f"ended with {process.wait()} before it said '{text}'")


def test_a_warning_stops_all_ranks_after_the_same_step_and_the_run_goes_on_as_often_as_it_is_told_to(tmp_path):
    """As Slurm warns, before the time is over; in an environment with a proxy. Who resumes says no more."""
    with mock.patch.dict(os.environ, http_proxy="http://127.0.0.1:9"):
        process = begin(
            tmp_path,
            "--output_dir",
            tmp_path / "run",
            "--save_every",
            "2",
            "--keep",
            "50",
            "--eval_every",
            "4",
            "--eval_samples",
            "16",
        )
    try:
        read_until(process, "step     10/")
        process.send_signal(signal.SIGUSR1)
        rest = process.communicate(timeout=30)[0]
    finally:
        process.kill()
    assert process.returncode == 138, rest
    assert "pipeloom: SIGUSR1: finishing the step and saving (once more ends at once)\n" in rest and "error" not in rest
    steps = {(tmp_path / "run" / f"step_{rank}").read_text() for rank in (0, 1)}
    assert len(steps) == 1
    step = steps.pop()
    assert {(tmp_path / "run" / f"end_{rank}").read_text() for rank in (0, 1)} == {f"{step} None"}
    assert f"stopped after step {step} of 100000, as asked; go on with --resume" in rest
    last = int(step)
    expected = {*range(2, last, 2), last}
    assert checkpoints(tmp_path) == sorted(expected)
    for _ in range(2):
        stop_at = last + 4
        process = run(
            tmp_path,
            [sys.executable, str(ROOT / "entry.py"), "--resume", str(tmp_path / "run"), "--stop_at", str(stop_at)],
        )
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and "changed" not in rest, rest
        assert "mesh       pipeline 2 x data 1 on 2 logical nodes" in rest
        expected |= {*range(last + 1, stop_at)} & {*range(0, stop_at, 2)} | {stop_at}
        assert checkpoints(tmp_path) == sorted(expected)
        last = stop_at
    lines = (tmp_path / "run" / "evaluation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(4, last + 1, 4)]


def test_a_node_that_is_killed_ends_the_job_on_the_other(tmp_path):
    port = str(free_port())
    nodes = [
        begin(
            tmp_path,
            "--output_dir",
            tmp_path / f"node_{node}",
            "--node_rank",
            str(node),
            "--master_addr",
            "127.0.0.1",
            "--master_port",
            port,
            "--heartbeat_timeout",
            "5",
        )
        for node in (0, 1)
    ]
    try:
        read_until(nodes[0], "step      2/")
        nodes[1].kill()
        killed = time.monotonic()
        rest = nodes[0].communicate(timeout=30)[0]
    finally:
        for node in nodes:
            node.kill()
            node.stdout.close()
            node.wait()
    assert nodes[0].returncode == 1 and time.monotonic() - killed < 15
    assert "pipeloom: error: node 1 is gone: its launcher has closed the connection\n" in rest


# Fails in the middle of a run, and again when it is over.
FAULTY = """
import pipeloom

@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if step == 3:
        raise KeyError("no such figure")

@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    raise ValueError(f"after {type(error).__name__}")
"""


def test_a_plugin_that_fails_ends_the_run_in_one_line_and_loses_nothing(tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    flags = ["--train_steps", "9", "--save_every", "2", "--output_dir", tmp_path / "run"]
    full = command(*TINY, *ONE_PROCESS, *flags, model=NO_LAYERS)
    full[full.index("--plugins") + 1] += ",./faulty.py"
    done = subprocess.run(full, text=True, capture_output=True, env=environment(), cwd=tmp_path, timeout=120)
    kept = tmp_path / "run" / "logs" / "traceback_of_rank_0.txt"
    whose = "plugin './faulty.py' (file), hook pipeloom_on"
    assert done.returncode == 1 and done.stderr.splitlines()[0] == (
        f"pipeloom: error: {whose}_step_end: KeyError: 'no such figure' (faulty.py, line 7); traceback: {kept}"
    )
    assert (
        f"and at the end of the run: {whose}_run_end: ValueError: after RunError (faulty.py, line 11); "
        f"traceback: {kept}\n"
    ) in done.stdout
    assert "Traceback" not in done.stdout + done.stderr and "KeyError: 'no such figure'" in kept.read_text()
    # The checkpoint of step 2 was being written while step 3 ended.
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")] == ["step_0000002"]
