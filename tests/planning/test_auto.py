"""Strategies that reckon: auto, by_time, by_memory, --micro_batch; and what a strategy decides for its ranks."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import yaml

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.launch.job import Job
from pipeloom.core.planning.cost.cluster_file import read_machines, write_machines
from pipeloom.core.planning.cost.hardware import BlockTime
from pipeloom.core.planning.machines import known_machines
from pipeloom.core.planning.memory import stage_loads
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import hints
from pipeloom.core.planning.worth import evaluate

pytestmark = pytest.mark.fast
CPU = Path(__file__).resolve().parents[2] / "examples" / "clusters" / "cpu.yaml"


def resolved(plugins, *flags):
    return parse(["--plugins", f"{plugins},bert,wiki_ofrecord", *map(str, flags)])


def plan(plugins, *flags):
    return make_plan(*resolved(plugins, *flags))


def refused(plugins, *flags):
    with pytest.raises(UsageError) as raised:
        plan(plugins, *flags)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def cluster(tmp_path, **networks):
    content = yaml.safe_load(CPU.read_text())
    content["networks"].update(networks)
    content.pop("sharing")
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def seconds(config, plugins, made):
    known = known_machines(config, made.cluster)
    executor = plugins.hook.pipeloom_executor(config=made.config)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=made.config, parameters=list(made.model.parameters))
    return evaluate(made, known.machines, executor, optimizer).seconds


@pytest.mark.parametrize("rate, order", [("20 MB/s", "between nodes"), ("100 GB/s", None)])
def test_auto_is_never_slower_than_what_one_would_choose_by_hand(tmp_path, rate, order):
    flags = ["--cluster", cluster(tmp_path, between={"bandwidth": rate, "latency": "1 us"}), "--num_hidden_layers", 4,
             "--num_attention_heads", 4]  # fmt: skip
    config, plugins = resolved("auto", *flags)
    made = make_plan(config, plugins)
    assert len(made.reasons) == 3 and "s a step predicted" in made.reasons[0] and " not " in made.reasons[1]
    if order is not None:  # over a slow network no gradients cross it
        assert made.placement.summary().startswith("pipeline hops: ") and "across" not in made.placement.summary()
    mine = seconds(config, plugins, made)
    for others in ("inter_first", "intra_first", "data_parallel", "inter_first,by_time", "intra_first,by_flops"):
        for count in (1, 2, 4, 8):
            other = resolved(others, *flags, "--grad_acc_steps", count)
            assert mine <= seconds(*other, make_plan(*other)) * (1 + 1e-9), (others, count)


def test_auto_leaves_what_is_given_and_its_ranks_get_what_it_chose(tmp_path):
    flags = ["--cluster", cluster(tmp_path), "--grad_acc_steps", 8, "--nums_split", 2]
    config, plugins = resolved("auto", *flags)
    made = make_plan(config, plugins)
    assert made.config.grad_acc_steps == 8 and made.mesh.pipeline == 2
    assert set(made.chosen) == {"tensor_parallel", "recompute", "shard", "tied_transfer"}
    job = Job.of(config, made, "run", 0.0, "")
    again = make_plan(*job.restore(), decided=job.decided())
    assert (again.mesh, again.split, again.placement) == (made.mesh, made.split, made.placement)
    assert again.config.to_flat_dict() == made.config.to_flat_dict()
    assert [b.borrow is None for b in again.model.blocks] == [b.borrow is None for b in made.model.blocks]


def test_a_run_hints_at_a_much_quicker_layout(tmp_path):
    slow = ["--cluster", cluster(tmp_path, between={"bandwidth": "20 MB/s", "latency": "1 us"})]
    (line,) = [line for line in hints(plan("intra_first", *slow)) if "by " in line]
    assert "would take" in line and "--plugins " in line and "intra_first" not in line
    flags = line.partition("--plugins ")[2].replace(",...", ",by_time").split()
    there = plan(flags[0], *flags[1:], *slow)
    assert not [one for one in hints(there) if "would take" in one]
    assert not [one for one in hints(plan("intra_first")) if "would take" in one]  # nothing is known of this machine


def test_auto_refuses_what_no_layout_can_do(tmp_path):
    assert "divides --train_global_batch_size 7" in refused("auto", "--train_global_batch_size", 7, "--nums_split", 1)
    content = yaml.safe_load(CPU.read_text())
    content["device"]["memory"] = "20 MiB"
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    assert "fits into 0.0 GB a rank: take more devices" in refused("auto", "--cluster", file)


def test_a_single_device_leaves_auto_nothing_to_choose():
    made = plan("auto", "--nnodes", 1, "--nproc_per_node", 1)
    assert made.mesh.size == 1 and not made.reasons


def test_a_cluster_of_other_devices_is_refused():
    file = CPU.parent / "m40-1g.yaml"
    assert "has CUDA devices, the run is on CPU devices" in refused("auto", "--cluster", file, "--device", "cpu")


def test_by_time_splits_by_what_was_measured(tmp_path):
    machines = read_machines(str(CPU))
    slow_head = tmp_path / "cluster.yaml"
    rows = [BlockTime("layer", 512.0, 1e8, 0.01, 0.02), BlockTime("pretraining_head", 512.0, 1e8, 0.2, 0.4)]
    write_machines(str(slow_head), type(machines)(**{**vars(machines), "measured": tuple(rows)}))
    flags = ["--num_hidden_layers", 6, "--num_attention_heads", 2, "--vocab_size", 5000]
    assert plan("inter_first,by_time", "--cluster", slow_head, *flags).split == (7, 1)
    assert plan("inter_first,by_flops", *flags).split == (4, 4)


@pytest.mark.parametrize("stages", [2, 4])
def test_by_memory_has_the_smallest_peak_of_all_splits(stages):
    flags = ["--num_hidden_layers", 6, "--num_attention_heads", 4, "--nums_split", stages, "--vocab_size", 8000]
    config, plugins = resolved("inter_first,by_memory", *flags)
    made = make_plan(config, plugins)
    executor = plugins.hook.pipeloom_executor(config=made.config)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=made.config, parameters=list(made.model.parameters))

    def peak(split):
        there = type(made)(**{**vars(made), "split": tuple(split)})
        return max(executor.memory(load).total for load in stage_loads(there, optimizer))

    cuts = combinations(range(1, 8), stages - 1)
    every = [[b - a for a, b in zip((0, *cut), (*cut, 8))] for cut in cuts]
    assert peak(made.split) <= min(map(peak, every)) * 1.001
    assert "at most 8 stages" in refused("inter_first,by_memory", "--num_hidden_layers", 6, "--nnodes", 3,
                                         "--nproc_per_node", 3, "--nums_split", 9)  # fmt: skip


def test_the_size_of_a_micro_batch(tmp_path):
    assert plan("inter_first", "--micro_batch", 4).config.grad_acc_steps == 4  # 32 samples, two data-parallel ranks
    assert plan("inter_first", "--micro_batch", 16).config.grad_acc_steps == 1
    assert "choose one of 1, 2, 4, 8, 16" in refused("inter_first", "--micro_batch", 5)
    both = refused("inter_first", "--micro_batch", 4, "--grad_acc_steps", 4)
    assert "--micro_batch and --grad_acc_steps both say" in both
    with pytest.raises(UsageError, match="a whole number of at least 1, or 'auto'"):
        resolved("inter_first", "--micro_batch", "most")


def test_the_largest_micro_batch_that_fits(tmp_path):
    content = yaml.safe_load(CPU.read_text())
    file, steps = tmp_path / "cluster.yaml", []
    flags = ["--micro_batch", "auto", "--train_global_batch_size", 256, "--cluster", file]
    for memory in ("64 GiB", "1400 MiB", "900 MiB"):
        content["device"]["memory"] = memory
        file.write_text(yaml.safe_dump(content))
        steps.append(plan("data_parallel", *flags).config.grad_acc_steps)
    assert steps[0] == 1 and steps == sorted(steps) and steps[2] > 1
    content["device"]["memory"] = "64 GiB"
    file.write_text(yaml.safe_dump(content))
    assert plan("inter_first", *flags).config.grad_acc_steps == 4  # two for each of two stages, or nothing overlaps
    content["device"]["memory"] = "10 MiB"
    file.write_text(yaml.safe_dump(content))
    assert "with micro-batches of 1 sample a rank needs about" in refused("data_parallel", *flags)


WISE = (
    "import pipeloom\nfrom pipeloom.core.contract.layout_choice import LayoutChoice\n"
    "from pipeloom.core.contract.topology import Mesh\n@pipeloom.hookimpl\n"
    "def pipeloom_choose_layout(cluster, memory, model):\n    {}\n"
)


def test_a_plugin_may_decide_split_and_options_with_the_mesh(tmp_path):
    file = tmp_path / "wise.py"
    answer = "return LayoutChoice(Mesh(2, 2), split=(1, 3), options={'recompute': 'full'}, reasons=('so be it',))"
    file.write_text(WISE.format(f"assert len(memory(Mesh(2, 2), (2, 2), {{}})) == 2; {answer}"))
    made = plan(f"{file},inter_first")
    assert made.split == (1, 3) and made.config.recompute == "full" and made.reasons == ("so be it",)
    assert made.recomputed() == [[], [0, 1]]


@pytest.mark.parametrize(
    "answer, flags, wrong",
    [
        ("LayoutChoice(Mesh(2, 2), split=(1, 4))", [], "it answers [1, 4], not 2 positive counts"),
        ("LayoutChoice(Mesh(2, 2), options={'shrad': 1})", [], "its option 'shrad' is declared by nobody"),
        ("LayoutChoice(Mesh(2, 2), options={'shard': 'optimizer'})", ["--shard", "none"], "one that the user gave"),
        ("LayoutChoice(Mesh(2, 1))", [], "the mesh pipeline 2 x data 1 x tensor 1 uses 2 devices"),
        ("LayoutChoice((2, 2))", [], "not a Mesh"),
    ],
)
def test_a_wrong_choice_names_plugin_and_hook(tmp_path, answer, flags, wrong):
    file = tmp_path / "wise.py"
    file.write_text(WISE.format(f"return {answer}"))
    with pytest.raises(UsageError) as raised:
        plan(f"{file},inter_first", *flags)
    assert wrong in str(raised.value) and "hook pipeloom_choose_layout" in str(raised.value)
