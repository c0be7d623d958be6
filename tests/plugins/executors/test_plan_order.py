"""What the engine's plan lets run before what: the look-ups of a tied embedding are not in the way of the pipeline."""

from __future__ import annotations

from collections import Counter

import pytest
from jobs import NO_LAYERS

from benchmarks.lab.plan_memory import leave_plan, parse_plan

MICRO_BATCHES, IN_FLIGHT = 8, 4  # the engine's buffers let 2 x stages micro-batches into the pipeline
HEAD = "stages.1.blocks.0"
#: What its plan has: operations, copies between ranks, micro-batches kept between stages, constants and their repeats.
PLAN = {"operations": 506, "transfers": 12, "buffers": 10, "constants": 26}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Of two stages, the embeddings and the head, one rank each; AdamW."""
    flags = [
        "--nnodes",
        "1",
        "--nproc_per_node",
        "2",
        "--nums_split",
        "2",
        "--num_attention_heads",
        "1",
        "--hidden_size",
        "16",
        "--train_global_batch_size",
        str(MICRO_BATCHES),
        "--grad_acc_steps",
        str(MICRO_BATCHES),
        "--train_steps",
        "1",
        "--save_every",
        "0",
    ]
    return parse_plan(leave_plan(tmp_path_factory.mktemp("plan"), flags, f"inter_first,{NO_LAYERS},wiki_ofrecord"))


def play(plan, stopped):
    """How often operations run in a step without those that ``stopped(name)``, by ``(name, rank)``."""
    from benchmarks.lab.plan_order import PlanOrder

    return PlanOrder(plan).runs_without(lambda name, rank: stopped(name))


def most(done, text):
    """Of the operations whose names contain ``text``."""
    return max(times for (name, _), times in done.items() if text in name)


def test_a_step_comes_to_its_end(plan):
    done = play(plan, lambda name: False)
    for name in ("word-gather", "word-unsorted_segment_sum", "gradient_of-acc"):
        assert most(done, name) == MICRO_BATCHES


def test_look_ups_run_ahead_of_their_stage(plan):
    """The last stage has done nothing of its own: the first goes on as far as its buffers let it."""
    done = play(plan, lambda name: name.startswith(HEAD) and not name.startswith(f"{HEAD}.part_word"))
    assert most(done, "word-gather") > IN_FLIGHT and most(done, "stages.0.blocks.0-gather") > IN_FLIGHT
    assert [name for name, rank in done if rank == 0 and name.startswith("System-Pipeline-Buffer-Op_-stages.0")]


def test_the_last_stage_does_not_wait_for_the_gradients_of_look_ups(plan):
    done = play(plan, lambda name: "word-unsorted_segment_sum" in name)
    assert most(done, "gradient_of-acc") == 0
    assert most(done, "word_embeddings_weight-acc") > IN_FLIGHT and most(done, "transform_dense_weight-acc") > IN_FLIGHT


def test_the_plan_has_no_more_operations_transfers_and_buffers_than_it_had(plan):
    """Numbers that may fall: each operation costs time at the start and in each step (docs/oneflow-notes.md)."""
    from oneflow.core.job.task_pb2 import TaskType

    from benchmarks.lab.plan_order import name_of

    kinds = Counter(TaskType.Name(task.task_type) for task in plan.task)
    names = [name_of(task) for task in plan.task]
    found = {
        "operations": len(plan.task),
        "transfers": kinds["kCopyCommNet"],
        "buffers": sum(name.startswith("System-Pipeline-Buffer-Op_") for name in names),
        "constants": sum("constant" in name for name in names),
    }
    assert all(found[name] <= most for name, most in PLAN.items()), f"{found}, up to now {PLAN}"
