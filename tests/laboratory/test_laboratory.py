"""The laboratory's frame: its command line, its page, its pictures. Nothing is measured."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from benchmarks import run as laboratory
from benchmarks.experiments import ASKED_FOR, NAMES
from benchmarks.experiments.pipeline import work_of
from pipeloom.core.planning.simulation import simulate


def figure(value):
    return {"median": value, "least": value, "most": value + 1}


def placed(decoder, strategy, megabytes, compute, steps):
    sent, where = [megabytes * 1e6] * 2, dict(decoder=decoder, strategy=strategy)
    return dict(**where, planned_bytes=sent, counted_bytes=sent, compute_s=compute, step_s=steps)


def rank(stage, busy):
    passes = [{"begin": 10.0 * number, "end": 10.0 * number + busy, "busy": busy} for number in range(2)]
    work = {"update": 5.0, "all_reduce": 0.0}
    waiting = {"start": 1.0, "fill": 10.0 * stage, "between": 0.0, "drain": 0.0, "end": 0.0}
    return dict(
        stage=stage, work=work, waiting=waiting, order=[], micro_batches={"forward": passes, "backward": passes}
    )


RANKS = [rank(0, 4.0), rank(1, 6.0)]
TRANSFERS = [{"from": 0, "to": 1, "least_ms": 0.5}, {"from": 1, "to": 0, "least_ms": None}]
DATA = {
    "step": {
        "versions": {"torch": "2.0"},
        "sizes": [{"size": [4, 256, 4], "times": {"PyTorch, plain": figure(40.0), "DP2": figure(30.0)}}],
    },
    "placement": {
        "rows": [
            placed("untied", "inter_first", 3, 0.5, {"300": 0.6}),
            placed("untied", "intra_first", 75, 1.0, {"300": 3.0}),
        ],
        "published": [
            dict(nodes="2", gpus_per_node="2", layers="24", hidden="1024", strategy=name, step_s=seconds)
            for name, seconds in (("intra_first", "1.2"), ("inter_first", "0.8"))
        ],
    },
    "pipeline": {
        "rows": [
            dict(
                stages=2, micro_batches=2, form="untied", link="local", step_ms=40.0, bound_ms=38.0, share=0.95,
                ranks=RANKS, transfers=TRANSFERS,
            )
        ],
        "left_out": ["4 stages: no control groups"],
    },
    "startup": {
        "jobs": {
            name: {"plan": figure(1.0), "first step": figure(9.0)}
            for name in ("the embedded job, 4 ranks", "one process")
        },
        "commands": {"--help": figure(0.2)},
    },
    "data": {"records_per_second": figure(25000.0), "batch": 32, "real": True, "prepared_per_second": {"1": 3000.0}},
    "checkpoint": {
        "runs": {
            "none": dict(seconds=10.0, step_s=0.5, saved=[], first_step_s=5.0),
            "training waits": dict(seconds=12.0, step_s=0.5, saved=[[100.0, 1.0], [100.0, 1.0]], first_step_s=5.0),
        },
        "verify_s": 0.5,
        "resumed_first_step_s": 6.0,
    },
    "planner": {
        "rows": [dict(rate=300, layout="inter_first", predicted=0.9, measured=1.0),
                 dict(rate=300, layout="intra_first", predicted=3.0, measured=4.0)],
        "choices": [dict(rate=300, layout="pipeline 2", predicted=0.9, measured=1.1, best_measured=1.0)],
    },
}  # fmt: skip
#: What must stand on the page of an experiment.
SAID = {
    "step": "| DP2 | 30.0 (30.0 to 31.0) | 0.75 |",
    "placement": "At 300 Mbit/s inter_first is 5.0 x faster untied.",
    "pipeline": "stage 1: start 1, fill 10",
    "startup": "| the embedded job, 4 ranks | 1.0 (1.0 to 2.0) | 9.0 (9.0 to 10.0) | 10 |",
    "data": "25000 (25000 to 25001) | 20000 |",
    "checkpoint": "| training waits | 2 | 100 | 100 | 500 | 1000 |",
    "planner": "| intra_first | 300 | 3.000 | 4.000 | -25% |",
}


def result(name, **more):
    known = dict(date="2026-01-01", machine="a machine", command="python ...", commit="abc")
    known["versions"] = {"oneflow": "0.9"}
    return {"name": name, "seconds": 61, "data": DATA[name], **known, **more}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_rendered_with_where_it_comes_from(name):
    text = laboratory.section(result(name))
    assert SAID[name] in text and "2026-01-01, commit abc, a machine" in text


def test_the_page_has_the_newest_result_of_each(tmp_path):
    for date, value in (("2026-01-01", 1.0), ("2026-02-01", 2.0)):
        data = {**DATA["data"], "records_per_second": figure(value)}
        (tmp_path / f"{date}-data.json").write_text(json.dumps(result("data", date=date, data=data)))
    found = laboratory.newest(tmp_path)
    page = laboratory.page(found)
    assert list(found) == ["data"] and "2026-02-01" in page and "2026-01-01" not in page


@pytest.mark.parametrize("name", ["placement", "pipeline"])
def test_pictures_are_svg_with_a_bar_for_each_thing(name):
    ((_, text),) = laboratory.pictures({name: result(name)}, name).items()
    rectangles = ElementTree.fromstring(text).findall("{http://www.w3.org/2000/svg}rect")
    assert len(rectangles) == {"placement": 2 + 2 * 2, "pipeline": 3 + 2 * 4 + 2 * 5}[name]


def test_the_bound_is_what_the_recorded_times_allow():
    timeline = simulate(work_of(DATA["pipeline"]["rows"][0]))
    assert timeline.length == 4 + 0.5 + 4 * 6 + 0.5 + 4 + 5


def test_the_list_and_a_name_that_is_nearly_right(capsys):
    assert laboratory.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*NAMES, *ASKED_FOR]
    with pytest.raises(SystemExit) as ended:
        laboratory.main(["placment"])
    assert ended.value.code == 2 and "did you mean placement?" in capsys.readouterr().err
