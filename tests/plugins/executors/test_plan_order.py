"""What the engine's plan lets run before what: the look-ups of a tied embedding are not in the way of the pipeline."""

from __future__ import annotations

from collections import Counter

import pytest
from jobs import NO_LAYERS

from benchmarks.lab.plan_memory import leave_plan, parse_plan

MICRO_BATCHES, IN_FLIGHT = 8, 4  # the engine's buffers let 2 x stages micro-batches into the pipeline
HEAD = "stages.1.blocks.0"
#: What plans have: operations, copies between ranks, buffers for micro-batches, constants and their repeats.
PLANS = {
    "pipeline": {"operations": 474, "transfers": 12, "buffers": 10, "constants": 26},
    "data parallelism": {"operations": 1620, "transfers": 62, "buffers": 0, "constants": 32},
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Of two stages, the embeddings and the head, one rank each; AdamW."""
    return compiled(tmp_path_factory.mktemp("plan"), NO_LAYERS, stages=2)


@pytest.fixture(scope="module")
def plan_of_data_parallelism(tmp_path_factory):
    """Of two ranks with the same layer."""
    return compiled(tmp_path_factory.mktemp("plan"), "bert", "--num_hidden_layers", "1", stages=1)


def compiled(folder, model, *more, stages):
    micro_batches = MICRO_BATCHES // (1 if stages > 1 else 2)
    flags = ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", str(stages), "--num_attention_heads", "1"]
    flags += ["--hidden_size", "16", "--train_global_batch_size", str(MICRO_BATCHES), "--train_steps", "1"]
    flags += ["--grad_acc_steps", str(micro_batches), "--save_every", "0", *more]
    return parse_plan(leave_plan(folder, flags, f"inter_first,{model},wiki_ofrecord"))


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


def counts(plan):
    """What a guard looks at in a plan."""
    from oneflow.core.job.task_pb2 import TaskType

    from benchmarks.lab.plan_order import name_of

    kinds = Counter(TaskType.Name(task.task_type) for task in plan.task)
    names = [name_of(task) for task in plan.task]
    return {
        "operations": len(plan.task),
        "transfers": kinds["kCopyCommNet"],
        "buffers": sum(name.startswith("System-Pipeline-Buffer-Op_") for name in names),
        "constants": sum("constant" in name for name in names),
    }


def test_the_plan_has_no_more_operations_transfers_and_buffers_than_it_had(plan, plan_of_data_parallelism):
    """Numbers that may fall: each operation costs time at the start and in each step (docs/oneflow-notes.md)."""
    for name, found in (("pipeline", counts(plan)), ("data parallelism", counts(plan_of_data_parallelism))):
        assert all(found[kind] <= most for kind, most in PLANS[name].items()), f"{name}: {found}, not {PLANS[name]}"


def test_clipping_is_a_part_of_the_updates(plan_of_data_parallelism):
    """No product of a gradient and the factor stands before them."""
    names = {
        node.kernel_conf.op_attribute_ref
        for task in plan_of_data_parallelism.task
        for node in task.exec_sequence.exec_node
    }
    updates = [name for name in names if name.endswith("_optimizer") and not name.startswith("norm_zero")]
    assert updates
    attributes = plan_of_data_parallelism.job_id2op_attribute_ref_table
    for table in attributes.values():
        for name in updates:
            assert table.op_name2op_attribute[name].op_conf.user_conf.input["scale_by_tensor"].s
