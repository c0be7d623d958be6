"""What ranks have to hold by a plan, and when a job is refused."""

from dataclasses import replace

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.free_memory import Room
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.rank_load import PredictedMemory, least_memory
from pipeloom.core.planning.fitting import check_memory
from pipeloom.core.planning.memory import memory_by_rank, stage_loads
from pipeloom.core.planning.planner import make_plan

pytestmark = pytest.mark.fast

SMALL = (
    "--plugins inter_first,bert,wiki_ofrecord --nnodes 2 --nproc_per_node 2 --num_hidden_layers 2 "
    "--num_attention_heads 2 --seq_length 16 --train_global_batch_size 16"
)


def plan_of(flags=""):
    config, manager = parse([*SMALL.split(), *flags.split()])
    plan = make_plan(config, manager)
    return plan, manager, manager.hook.pipeloom_build_optimizer(config=plan.config, parameters=plan.model.parameters)


def loads_of(flags="", **how):
    plan, _, optimizer = plan_of(flags)
    return plan, stage_loads(plan, optimizer, **how)


def test_parameters_gradients_and_states():
    plan, loads = loads_of("--tie_embeddings false")
    assert [load.parameters / 4 for load in loads] == plan.stage_parameters()
    assert all(load.whole == load.updated == load.parameters and not load.masters for load in loads)
    least = least_memory(loads[0])
    assert least["optimizer"] == 2 * loads[0].parameters
    assert least["gradients"] == 2 * loads[0].parameters  # with what four micro-batches add up


def test_sharding_spreads_what_it_says():
    whole = loads_of("")[1][0]
    optimizer, parameters = loads_of("--shard optimizer")[1][0], loads_of("--shard parameters")[1][0]
    assert optimizer.parameters == parameters.whole == whole.parameters
    assert optimizer.masters
    assert optimizer.updated == parameters.updated == parameters.parameters
    assert 0.5 * whole.parameters <= optimizer.updated < 0.52 * whole.parameters  # what two do not divide stays whole


def test_activations_are_those_of_a_micro_batch():
    plan, loads = loads_of()
    size = plan.batch._replace(samples=2, tokens=32)  # 16 samples, 4 micro-batches, 2 data-parallel ranks
    blocks = plan.model.stage_blocks(plan.split)
    assert [load.kept for load in loads] == [sum(b.cost.of(size).kept_bytes for b in stage) for stage in blocks]
    assert [load.in_flight for load in loads] == [2, 1]
    again = loads_of("--recompute full")[1]
    assert [load.kept + load.recomputed for load in again] == [load.kept for load in loads]
    assert again[0].boundaries == sum(b.cost.of(size).output_bytes for b in blocks[0] if b.layer)


def test_what_else_lies_in_memory():
    load = loads_of()[1][0]
    assert load.saved == 0
    assert loads_of("", writes=True)[1][0].saved == 3 * load.parameters
    for flags in ("--save_every 0", "--async_save false"):
        assert loads_of(flags, writes=True)[1][0].saved == 0
    assert loads_of("--on_nan skip")[1][0].saved == 3 * load.parameters
    assert loads_of("--tied_transfer vectors")[1][1].lent == 4096 * 128 * 4
    assert loads_of("--optimizer sgd")[1][0].states in (0, 1)
    assert loads_of("--optimizer lamb")[1][0].between_steps


def test_a_rank_that_writes_checkpoints_takes_more():
    plan, manager, optimizer = plan_of()
    memories = memory_by_rank(plan, manager.hook.pipeloom_executor(config=plan.config), optimizer)
    writers = {ranks[0] for ranks in plan.placement.stages}
    assert {rank for rank, memory in enumerate(memories) if memory.parts["copy of the state"]} == writers


GB = 1e9


def fitted(plan):
    """Each rank takes 4 GB, half with ``--shard parameters``, 3 with the optimizer's state spread."""
    size = {"none": 4, "optimizer": 3, "parameters": 2}[plan.config.shard] * GB / plan.mesh.pipeline * 2
    return [PredictedMemory({"all": size}, 0.1) for _ in range(plan.cluster.size)]


def no_other(options):
    raise UsageError("no other layout")


def check(room, how="stop", replan=no_other, estimate=fitted, ranks=(0, 1, 2, 3), flags=""):
    plan = replace(plan_of(f"--async_save false {flags}")[0])
    plan = replace(plan, config=plan.config.replace(memory_check=how))
    return check_memory(plan, [(list(ranks), room)], estimate, replan)


def test_what_fits_is_not_spoken_of():
    assert check(Room(int(16.0 * GB))) == []
    assert check(Room(int(8.0 * GB)), ranks=(2, 3)) == []
    assert check(Room(1), how="off") == []


@pytest.mark.parametrize("room", [Room(int(15.9 * GB)), Room(int(14.5 * GB)), Room(int(2 * GB), int(12.5 * GB))])
def test_what_may_fit_is_a_warning(room):
    (line,) = check(room)
    assert line.startswith("warning: this job may need about 16.0 GB of memory here (ranks 0-3: 4.0 each)")
    assert "\n" not in line


def test_what_cannot_fit_is_refused_with_the_nearest_change_that_does():
    with pytest.raises(UsageError) as refused:
        check(Room(int(14.3 * GB)))
    assert str(refused.value) == (
        "this job needs about 16.0 GB of memory here (ranks 0-3: 4.0 each), and this machine has 14.3 GB free; what "
        "would fit: --shard optimizer (12.0 GB); or try it all the same: --memory_check warn"
    )
    with pytest.raises(UsageError, match=r"what would fit: --shard parameters \(8.0 GB\)"):
        check(Room(int(9 * GB)))
    (line,) = check(Room(int(9 * GB)), how="warn")
    assert line.startswith("warning: this job needs")


def test_more_stages_are_asked_of_the_planner():
    def replan(options):
        assert options == {"nums_split": 4}
        return plan_of("--nums_split 4 --num_hidden_layers 6 --async_save false")[0]

    with pytest.raises(UsageError, match=r"what would fit: --shard parameters --nums_split 4 \(4.0 GB\)"):
        check(Room(int(5 * GB)), replan=replan)


def test_nothing_fits():
    with pytest.raises(UsageError, match=r"--shard parameters would take it down to 8.0 GB: take more nodes"):
        check(Room(int(1 * GB)))


def test_nothing_is_refused_without_measurements():
    (line,) = check(Room(1), estimate=lambda plan: [PredictedMemory({"all": GB})] * plan.cluster.size)
    assert "may need about 4.0 GB" in line


def test_a_gpu_that_is_too_small_is_named():
    plan = plan_of("--async_save false")[0]
    places = [([0], Room(int(8 * GB), limited_by="GPU 0")), ([1], Room(int(3 * GB), limited_by="GPU 1"))]
    with pytest.raises(
        UsageError, match=r"rank 1: 4.0\), and GPU 1 has 3.0 GB free; what would fit: --shard optimizer"
    ):
        check_memory(plan, places, fitted, no_other)


def test_the_launcher_refuses_before_it_writes(tmp_path, monkeypatch):
    from pipeloom.core.commands import train

    monkeypatch.setattr(train, "rooms", lambda device, ranks: [(list(ranks), Room(int(1e8)))])
    config, manager = parse([*SMALL.split(), "--output_dir", str(tmp_path / "run")])
    with pytest.raises(
        UsageError, match=r"this job needs about \d\.\d GB of memory here \(.*\), and this machine has 0.1"
    ):
        train.train_by_ranks(config, manager, ["false"])
    assert not (tmp_path / "run").exists()
