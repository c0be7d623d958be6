"""A run in the layout that ``auto`` chose, whose ranks also measure themselves as ``profile`` wants it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from jobs import TINY, Training

CPU = Path(__file__).resolve().parents[2] / "examples" / "clusters" / "cpu.yaml"


def test_a_run_by_auto_says_what_it_chose_and_its_ranks_measure_the_cluster(tmp_path):
    measured = tmp_path / "measured.json"
    # Over so slow a network a pipeline between the nodes is the best of all layouts.
    content = yaml.safe_load(CPU.read_text())
    content["networks"]["between"]["bandwidth"] = "2 MB/s"
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(yaml.safe_dump(content))
    flags = [*TINY, "--train_steps", "3", "--cluster", str(cluster), "--profile_of_ranks", str(measured)]
    run = Training(tmp_path / "run", *flags, strategy="auto,pipeloom.plugins.commands.profile.in_rank")
    curve = run.curve()
    said = run.said()
    assert len(curve) == 3 and curve[-1]["loss"] < curve[0]["loss"]
    assert "\nauto       pipeline" in said and "s a step predicted" in said and "\n           not " in said
    chosen = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["parallel"]
    assert chosen["nums_split"] >= 2 and f"{chosen['grad_acc_steps']} micro-batch" in said
    found = json.loads(measured.read_text())
    assert len(found["ranks"]) == 4 and all(row["together"] > 1e9 and row["copy"] > 1e8 for row in found["ranks"])
    assert [row["alone"] is not None for row in found["ranks"]] == [True, False, False, False]
    assert {row["where"] for row in found["sends"]} == {"inside", "between"}
    assert {(row["where"], row["ranks"]) for row in found["all_reduces"]} == {("inside", 2), ("between", 2), ("all", 4)}
    for rows in (found["sends"], found["all_reduces"]):
        assert all(0 < row["seconds"] < 5 for row in rows)
