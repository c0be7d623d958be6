"""The main job as a newcomer runs it: embedded sample, 2 logical nodes x 2 devices; what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
import yaml
from jobs import NO_LAYERS, ONE_PROCESS, ROOT, TINY, Training, command, environment, metrics, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The main command, 20 steps; its directory and what it printed."""
    training = Training(tmp_path_factory.mktemp("main") / "run", "--train_steps", "20", "--log_every", "5")
    training.curve(timeout=300)
    return training.directory, training.said()


def test_console_says_what_runs_where_and_the_loss_falls(run):
    directory, output = run
    lines = output.splitlines()
    assert lines[0].startswith("pipeloom: 2 logical nodes x 2 CPU devices, 2 pipeline stages x 2 data-parallel, bert")
    assert "node 1 | rank 2: stage 1 | rank 3: stage 1 |" in output
    assert "pipeline hops: 2 between nodes, 0 inside; gradients all-reduced inside nodes" in output
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 5 and all(
        word in steps[-1] for word in ("mlm_loss", "nsp_loss", "lr", "samples/s", "tokens/s", "ETA")
    )
    assert "Warning" not in output and "Traceback" not in output


def test_metrics_jsonl(run):
    logged = metrics(run[0])
    assert [entry["step"] for entry in logged] == [1, *range(5, 21, 5)]
    for entry in logged[1:]:
        assert {"step", "loss", "mlm_loss", "nsp_loss", "lr", "samples_per_second", "tokens_per_second"} <= set(entry)
        assert entry["loss"] == pytest.approx(entry["mlm_loss"] + entry["nsp_loss"], abs=1e-6)
        assert entry["tokens_per_second"] == pytest.approx(128 * entry["samples_per_second"])
    assert logged[-1]["loss"] < logged[0]["loss"] - 1.0


def test_tensorboard_reads_the_same_values(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run[0] / "tb"), size_guidance={"scalars": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (entry["step"], pytest.approx(entry["loss"], rel=1e-6)) for entry in metrics(run[0])
    ]
    text = events.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert "train_global_batch_size: 32" in text
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_run_directory(run):
    directory = run[0]
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config["plugins"] == ["inter_first", "bert", "wiki_ofrecord"]
    assert config["train"]["train_steps"] == 20 and config["model"]["vocab_size"] == 4096
    environment_ = json.loads((directory / "env.json").read_text())
    assert environment_["packages"]["oneflow"] == "0.9.0" and environment_["placement"] == [[0, 1], [2, 3]]
    assert set(environment_["plugins"]) == {"inter_first", "bert", "wiki_ofrecord"}
    assert environment_["cluster"] == {"nodes": 2, "devices_per_node": 2, "device_type": "cpu", "logical": True}
    assert "step 20/20" in (directory / "train.log").read_text()


#: What a shell may have left: of other tools, of another job; and a console that knows no umlaut.
ODD = {
    "PYTHONOPTIMIZE": "2",
    "PYTHONDEVMODE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "ascii",
    "CUDA_VISIBLE_DEVICES": "0",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "10.255.255.1",
    "COLUMNS": "1",
    "TERM": "dumb",
}


def test_the_resolved_config_runs_again_bit_for_bit_and_training_does_not_notice_an_evaluation(tmp_path):
    """The second run has the file of the first, less the evaluation, and an odd environment."""
    second = tmp_path / "zweiter Läufer"
    first = train(
        tmp_path / "first", *TINY, *ONE_PROCESS, "--train_steps", "3", "--eval_every", "2", "--eval_samples", "20"
    )
    assert [
        json.loads(line)["step"] for line in (tmp_path / "first" / "evaluation.jsonl").read_text().splitlines()
    ] == [2, 3]
    result = subprocess.run(
        [
            *command()[:2],
            "--config",
            str(tmp_path / "first" / "config.yaml"),
            "--output_dir",
            str(second),
            "--eval_every",
            "none",
            "--eval_samples",
            "none",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env=environment(**ODD),
    )
    assert result.returncode == 0, result.stdout
    assert (
        result.stdout.splitlines()[-1].endswith("zweiter L\\u00e4ufer")
        and "Läufer" in (second / "train.log").read_text()
    )
    assert [entry["loss"] for entry in metrics(second)] == [entry["loss"] for entry in first]
    assert not (second / "evaluation.jsonl").exists()


def test_an_output_directory_that_holds_a_run_is_refused(run):
    directory = run[0]
    before = (directory / "metrics.jsonl").read_bytes()
    result = subprocess.run(
        command("--output_dir", directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert result.returncode == 2
    assert f"--output_dir {directory} already holds a run" in result.stdout and "Traceback" not in result.stdout
    assert (directory / "metrics.jsonl").read_bytes() == before


def test_sigkill_of_a_rank_ends_all_and_names_it(tmp_path):
    process = subprocess.Popen(
        command("--output_dir", tmp_path / "run", *TINY, "--train_steps", "100000", model=NO_LAYERS),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
    )
    ranks = {}
    try:
        for line in process.stdout:
            if line.startswith("step"):
                break
        ranks = _ranks_of(process.pid)
        assert sorted(ranks) == [0, 1, 2, 3]
        killed = time.monotonic()
        os.kill(ranks[2], signal.SIGKILL)
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 1
        assert time.monotonic() - killed < 15
        assert "rank 2 failed: killed by SIGKILL" in rest
        assert not any(os.path.exists(f"/proc/{pid}") for pid in ranks.values())
    finally:
        process.kill()


def _ranks_of(launcher: int):
    """Rank -> process id of the launcher's children."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]
            variables = open(f"/proc/{pid}/environ").read().split("\0")
        except OSError:
            continue
        if int(parent) == launcher:
            found[next(int(v[5:]) for v in variables if v.startswith("RANK="))] = int(pid)
    return found


def test_two_nodes_each_with_its_own_launcher(tmp_path):
    """As on two machines (``./run_ppl.sh 0`` and ``./run_ppl.sh 1``), here both on this one."""
    from pipeloom.core.launch.launcher import free_port

    port = str(free_port())
    nodes = [
        subprocess.Popen(
            command(
                "--output_dir",
                tmp_path / f"node_{node}",
                *TINY,
                "--train_steps",
                "3",
                "--nnodes",
                "2",
                "--nproc_per_node",
                "1",
                "--node_rank",
                str(node),
                "--master_addr",
                "127.0.0.1",
                "--master_port",
                port,
                model=NO_LAYERS,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            cwd=tmp_path,
        )
        for node in (0, 1)
    ]
    said = [node.communicate(timeout=180)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert [entry["step"] for entry in metrics(tmp_path / "node_0")] == [1, 2, 3]
    assert "pipeline hops: 1 between nodes, 0 inside" in said[0] and "step" not in said[1]


def test_it_is_a_rank_under_oneflows_own_launcher(tmp_path):
    flags = command(
        "--output_dir",
        tmp_path / "run",
        *TINY,
        "--nnodes",
        "1",
        "--nproc_per_node",
        "2",
        "--nums_split",
        "2",
        "--train_steps",
        "3",
        model=NO_LAYERS,
    )
    from pipeloom.core.launch.launcher import free_port

    result = subprocess.run(
        [
            flags[0],
            "-m",
            "oneflow.distributed.launch",
            "--nproc_per_node",
            "2",
            "--nnodes",
            "1",
            "--node_rank",
            "0",
            "--master_addr",
            "127.0.0.1",
            "--master_port",
            str(free_port()),
            *flags[1:],
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        env=environment(),
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout
    assert [entry["step"] for entry in metrics(tmp_path / "run")] == [1, 2, 3]
