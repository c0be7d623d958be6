"""The memory that is predicted, beside that of compiled plans and of the processes that ran them.

The figures are made by ``python benchmarks/lab/memory_fit.py --write``.
"""

import json

import pytest
from jobs import ROOT

from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.memory import memory_by_rank, stage_loads
from pipeloom.core.planning.planner import make_plan

pytestmark = pytest.mark.fast

FIGURES = json.loads((ROOT / "tests" / "fixtures" / "compiled_memory.json").read_text())
#: Relative; what ``--memory_check stop`` allows for.
CLOSE = 0.15


def planned(flags):
    config, manager = parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--save_every", "0", *flags.split()])
    plan = make_plan(config, manager)
    optimizer = manager.hook.pipeloom_build_optimizer(config=plan.config, parameters=list(plan.model.parameters))
    return plan, manager.hook.pipeloom_executor(config=plan.config), optimizer


@pytest.mark.parametrize("name", FIGURES)
def test_what_each_rank_takes(name):
    found = FIGURES[name]
    memories = memory_by_rank(*planned(found["flags"]))
    assert len(memories) == len(found["plan"])
    assert [memory.total for memory in memories] == pytest.approx(found["peak"], rel=CLOSE)
    blocks = [memory.total - memory.parts["process"] for memory in memories]
    assert blocks == pytest.approx(found["plan"], rel=CLOSE)


def test_what_is_not_measured_refuses_nothing():
    plan, executor, optimizer = planned(FIGURES["one"]["flags"])
    (load,) = stage_loads(plan, optimizer)
    on_gpu = executor.memory(load.__class__(**{**vars(load), "device_type": "cuda"}))
    assert on_gpu.error == 1
    assert 0 < on_gpu.total < executor.memory(load).total
