"""What is to be run on GPUs some day: its commands are ones that the command line takes, and its judges can say no."""

from __future__ import annotations

import csv
import io
import json
import math

import gpus
import pytest

from benchmarks import gpu_acceptance
from benchmarks.experiments import seed_table
from benchmarks.experiments.lab import Lab
from benchmarks.gpu_acceptance import CHECKS, SMALL, TINY, Failed, judged, report
from benchmarks.lab.accept import Done, GpuMemory, Run, Runner, on_cpus
from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.planner import make_plan

pytestmark = pytest.mark.fast


def plan_of(words):
    """The plan of a command of ``entry.py``, which may not raise."""
    config, plugins = parse(words[2:])
    return make_plan(config, plugins)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_commands_are_taken(check, tmp_path, monkeypatch):
    for run in check.runs:
        if run.resumes is None:
            assert plan_of(Runner(tmp_path, TINY, True, print).command(run)).cluster.size == run.ranks
            gpus.machine_with(monkeypatch, *[gpus.V100] * 4)
            plan = plan_of(Runner(tmp_path, SMALL, False, print).command(run))
            assert (plan.cluster.size, plan.cluster.device_type) == (run.ranks, run.device)
            monkeypatch.undo()


def done(losses, code=0, said="", **more):
    lines = [{"loss": loss, "samples_per_second": 1.0, **more} for loss in losses]
    return Done("command", code, said, lines)


#: Check -> runs with which it holds, and with which it does not.
GOOD_AND_BAD = {
    "devices": ([done([1.0, 2.0]), done([1.0, 2.0005])], [done([1.0, 2.0]), done([1.0, 2.002])]),
    "repeat": ([done([1.0]), done([1.0])], [done([1.0]), done([1.1])]),
    "PP2": ([done([1.0]), done([1.00005])], [done([1.0]), done([math.nan])]),
    "amp": ([done([1.0, 2.0]), done([1.01, 2.0])], [done([1.0, 2.0]), done([1.2, 2.0])]),
    "loss scale": (
        [done([1.0] * 10, said="overflow   a\noverflow   b", loss_scale=2.0**40)],
        [done([1.0] * 10, loss_scale=2.0**40)],
    ),
    "checkpoint": ([done([3.0, 2.0, 1.0]), done([2.0, 1.0])], [done([3.0, 2.0, 1.0]), done([3.0, 2.0])]),
}


@pytest.mark.parametrize("name", GOOD_AND_BAD)
def test_judges_say_yes_and_no(name):
    check = next(check for check in CHECKS if check.name == name)
    good, bad = GOOD_AND_BAD[name]
    assert check.judge(*good)
    with pytest.raises(Failed):
        check.judge(*bad)


def test_memory_is_held_against_what_is_predicted(tmp_path, monkeypatch):
    gpus.machine_with(monkeypatch, gpus.V100)
    check = next(check for check in CHECKS if check.name == "memory")
    words = Runner(tmp_path, SMALL, False, print).command(check.runs[0])
    predicted = gpu_acceptance.predicted_mb(" ".join([*words[4:-8], *words[-6:]]))
    assert 1000 < predicted < 20000
    for share, fits in ((1.1, True), (0.5, False), (2.0, False)):
        run = Done(" ".join(words), 0, "", [], 1.0, {"0": predicted * share})
        if fits:
            assert "MiB predicted" in check.judge(run)
        else:
            with pytest.raises(Failed, match="off by"):
                check.judge(run)


def test_the_most_of_what_nvidia_smi_says():
    memory = GpuMemory(False)
    for answer in ("0, 10\n1, 20\n", "0, 30\n1, 5\n", "No devices\n"):
        memory.take(answer)
    assert memory.most == {"0": 30.0, "1": 20.0}


def test_what_cpus_cannot_is_left_out():
    assert on_cpus("--precision amp --nccl_fusion_ops 3 --seed 1") == "--loss_scale dynamic --seed 1"
    assert on_cpus("--precision amp --loss_scale dynamic --fused_kernels false") == "--loss_scale dynamic"


def test_a_report_has_every_check(tmp_path):
    """With runs that are not made."""
    runner = Runner(tmp_path, TINY, True, print)
    check = next(check for check in CHECKS if check.name == "PP2 x DP2")
    results = [judged(check, runner, gpus=2)]
    runner._done = {run: done([1.0]) for run in check.runs}
    results.append(judged(check, runner, gpus=4))
    runner._done = {run: done([], 1, "much\npipeloom: error: no") for run in check.runs}
    results.append(judged(check, runner, gpus=4))
    assert [one["result"] for one in results] == ["not run", "passed", "failed"]
    text = report(results, "head", dry=True)
    assert "needs 4 GPUs" in text and "pipeloom: error: no" in text and "says nothing about GPUs" in text
    assert "--device cuda" in text and json.dumps(results)


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch):
    gpus.machine_with(monkeypatch)
    with pytest.raises(SystemExit, match="no GPU is visible; --dry goes through the checks on CPUs"):
        gpu_acceptance.main(["--output", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


#: The table in the original project's README, as it was published.
PUBLISHED = """nodes,layers,heads,hidden,strategy,step_s
2,24,16,1024,intra_first,1.2
2,24,16,1024,inter_first,0.8
3,24,32,2048,intra_first,5.25
3,24,32,2048,inter_first,2.84
4,48,32,2048,intra_first,10.96
4,48,32,2048,inter_first,5.23
"""


def test_the_seed_table_is_the_published_one():
    rows = list(csv.DictReader(io.StringIO(PUBLISHED)))
    known = [(int(r["nodes"]), int(r["layers"]), int(r["heads"]), int(r["hidden"]), r["strategy"]) for r in rows]
    assert [(row.nodes, row.layers, row.heads, row.hidden, row.strategy) for row in seed_table.ROWS] == known
    assert [row.published_s for row in seed_table.ROWS] == [float(r["step_s"]) for r in rows]
    assert [row.batch for row in seed_table.ROWS][:4] == [32, 32, 24, 24]


@pytest.mark.parametrize("row", seed_table.ROWS, ids=lambda row: row.name)
def test_the_seed_table_s_commands_are_taken(row, tmp_path, monkeypatch):
    gpus.machine_with(monkeypatch, *[gpus.V100] * 16)
    for all_positions, predictions in ((False, 20), (True, 128)):
        lab = Lab(False, tmp_path, None, print, all_positions=all_positions)
        plan = plan_of(seed_table.command(row, "runs", lab))
        assert (plan.mesh.pipeline, plan.mesh.data) == (row.nodes, row.nodes)
        assert plan.config.grad_acc_steps == 1 and plan.config.max_predictions == predictions
        assert plan.config.train_global_batch_size == row.batch
    if row.nodes == 2:  # as was published of this one
        assert plan.model.size / 1e6 == pytest.approx(367.5, abs=0.1)


def test_a_dry_seed_table_says_all_commands(tmp_path):
    said = []
    data = seed_table.run(Lab(False, tmp_path, None, said.append, dry=True))
    assert len(said) == 6 and all(line.startswith("python entry.py --plugins ") for line in said)
    text = seed_table.render(json.loads(json.dumps(data)))
    assert (
        "nothing was measured on GPUs" in text
        and "| 2 x 2, 24 layers, 1024 wide, batch 32 | inter_first | 0.80 |" in text
    )
    assert "| 1.50 |" in text and text.count("python entry.py") == 6


def test_a_seed_table_that_was_measured_is_rendered():
    rows = [dict(row._asdict(), command="c", step_s=row.published_s / 2) for row in seed_table.ROWS[:2]]
    text = seed_table.render({"rows": rows, "gpus": ["Tesla V100"] * 4, "all_positions": True, "dry": False})
    assert "| 0.80 | 0.40 | 1.50, 1.50 |" in text and "over all positions" in text


def test_nodes_make_the_rows_that_have_them(tmp_path, monkeypatch):
    """Two GPUs here, as node 1 of several: 2 x 2 is run, and nothing that needs three of them."""
    gpus.machine_with(monkeypatch, *[gpus.V100] * 2)
    monkeypatch.setattr(seed_table, "find_gpus", lambda: gpus.gpus(*[gpus.V100] * 2))
    monkeypatch.setattr(seed_table, "seconds", lambda words, folder, row: 1.0)
    lab = Lab(False, tmp_path, None, lambda line: None, train="--node_rank 1 --master_addr 10.0.0.1")
    rows = seed_table.run(lab)["rows"]
    assert [row.get("left_out", "run") for row in rows] == ["run"] * 2 + ["needs 3 GPUs here"] * 2 + [
        "needs 4 GPUs here"
    ] * 2
    assert all(row["command"].count("--node_rank 1") == 1 for row in rows)


def test_a_run_is_made_once(tmp_path):
    made = []
    runner = Runner(tmp_path, TINY, True, print)
    runner._make = lambda run, command: made.append(run) or done([1.0])
    for _ in range(2):
        runner(Run("a"))
    assert len(made) == 1
