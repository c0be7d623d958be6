"""What the engine records with --profile: a run of two stages, and the same one without."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from jobs import NO_LAYERS, Training

STEPS, MICRO_BATCHES = 2, 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of a run with --profile and of one without."""
    folder = tmp_path_factory.mktemp("profiled")
    flags = ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "2", "--num_attention_heads", "1"]
    flags += ["--train_global_batch_size", "8", "--grad_acc_steps", str(MICRO_BATCHES), "--train_steps", "6"]
    flags += ["--eval_every", "5", "--eval_samples", "8", "--log_every", "1", "--save_every", "0"]
    with_it = Training(folder / "with", *flags, "--profile", "4-5", model=NO_LAYERS)
    without = Training(folder / "without", *flags, model=NO_LAYERS)
    curves = with_it.curve(), without.curve()
    return folder / "with", with_it.said(), curves


@pytest.fixture(scope="module")
def trace(runs):
    return json.loads((runs[0] / "profile" / "trace.json").read_text())


@pytest.fixture(scope="module")
def summary(runs):
    return json.loads((runs[0] / "profile" / "summary.json").read_text())


def tracks(trace, name):
    """The spans of the tracks of this name, by rank."""
    known = {
        (event["pid"], event["tid"])
        for event in trace["traceEvents"]
        if event["name"] == "thread_name" and event["args"]["name"] == name
    }
    found = {rank: [] for rank, _ in known}
    for event in trace["traceEvents"]:
        if event["ph"] == "X" and (event["pid"], event["tid"]) in known:
            found[event["pid"]].append(event)
    return {rank: sorted(spans, key=lambda span: span["ts"]) for rank, spans in found.items()}


def test_training_does_not_notice(runs):
    curves = [[(step["loss"], step["grad_norm"]) for step in curve] for curve in runs[2]]
    assert curves[0] == curves[1] and len(curves[0]) == 6


def test_spans_of_a_thread_do_not_overlap(trace):
    for name in ("work", "operations", "waiting", "steps"):
        for spans in tracks(trace, name).values():
            for before, after in zip(spans, spans[1:]):
                assert before["ts"] + before["dur"] <= after["ts"] + 1e-3, (name, before, after)


def test_each_rank_makes_each_micro_batch_forward_and_backward(trace, summary):
    for rank, spans in tracks(trace, "work").items():
        for step in (4, 5):
            for part in range(MICRO_BATCHES):
                own = [span for span in spans if span["args"] == {"stage": rank, "micro_batch": part, "step": step}]
                assert {span["cat"] for span in own} >= {"forward", "backward"}
        assert {"forward", "backward", "update"} <= {span["cat"] for span in spans}
    assert len(tracks(trace, "work")) == 2
    for rank in summary["ranks"]:
        order = rank["order"]
        assert sorted(order) == sorted(f"{what}{part}" for what in "FB" for part in range(MICRO_BATCHES))
        for part in range(MICRO_BATCHES):
            assert order.index(f"F{part}") < order.index(f"B{part}")
    assert summary["ranks"][1]["order"][:2] == ["F0", "B0"]


def test_a_stage_begins_with_what_the_one_before_has_made(trace, summary):
    ends = {event["id"]: event["ts"] for event in trace["traceEvents"] if event["ph"] == "s"}
    arrows = [event for event in trace["traceEvents"] if event["ph"] == "f"]
    assert len(arrows) >= 2 * STEPS * MICRO_BATCHES
    assert all(ends[event["id"]] < event["ts"] for event in arrows)
    ways = {(way["from"], way["to"]) for way in summary["transfers"] if way["least_ms"] is not None}
    assert ways == {(0, 1), (1, 0)}


def test_work_and_waiting_are_the_step(summary):
    assert summary["steps"] == [4, 5] and summary["operations_lost"] == 0
    for rank in summary["ranks"]:
        whole = sum(rank["work"].values()) + sum(rank["waiting"].values())
        assert whole == pytest.approx(summary["step_ms"], rel=1e-6)
        assert rank["work"]["other"] == 0
        assert rank["bubble"] == pytest.approx(sum(rank["waiting"].values()) / summary["step_ms"])
        assert rank["own_thread"]["data"] > 0 and rank["types"]["adam_update"] > 0


def test_the_table_is_said(runs):
    assert (runs[0] / "profile" / "summary.txt").read_text().strip() in runs[1]


def test_the_run_of_an_operation_says_its_micro_batch():
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    import_oneflow()
    from pipeloom.plugins.executors.oneflow.recorder import position

    assert [position(n, 8, 2, 4, False) for n in (0, 3, 4, 7)] == [(0, 0), (0, 3), (1, 0), (1, 3)]
    assert [position(n, 6, 2, 4, True) for n in (0, 2, 3)] == [(0, 1), (0, 3), (1, 1)]
    assert [position(n, 2, 2, 4, False) for n in (0, 1)] == [(0, None), (1, None)]
    assert [position(n, 2, 2, 1, False) for n in (0, 1)] == [(0, 0), (1, 0)]


def test_what_waits_for_no_gradient_is_no_part_of_the_backward_pass(monkeypatch):
    """A constant that the backward pass reads, and what is made of it and of masks, runs when the step begins."""
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    import_oneflow()
    from pipeloom.plugins.executors.oneflow import passes

    def operation(name, *reads):
        blobs = SimpleNamespace(s=[f"{read}/out_0" for read in reads])
        return SimpleNamespace(name=name, user_conf=SimpleNamespace(input={"in": blobs}))

    traced = [operation("input"), operation("loss", "input")]
    monkeypatch.setattr(passes.c_api_util, "GetCurrentJob", lambda: SimpleNamespace(net=SimpleNamespace(op=traced)))
    known = passes.TracedPasses()
    known.wanted = True
    with known.backward():
        traced += [operation("seed", "loss"), operation("ones"), operation("mask", "ones", "input")]
        traced += [operation("masked", "mask", "seed"), operation("gradient", "masked", "ones")]
    traced.append(operation("update", "gradient"))
    found = {one.name: known.of(one.name) for one in traced}
    early, late = ("input", "loss", "ones", "mask"), ("seed", "masked", "gradient")
    assert found == {**dict.fromkeys(early, "forward"), **dict.fromkeys(late, "backward"), "update": None}
