"""From the command line to a checked plan: what is filled in, and what each misfit costs (one line)."""

from __future__ import annotations

import math
import os
import sys
from types import SimpleNamespace

import pytest
from gpus import A100, H100, P100, V100, machine_with

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands import cli
from pipeloom.core.commands import train as train_command
from pipeloom.core.planning.clusters import resolve_cluster
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import describe_plan, hints
from pipeloom.plugins.datasets.wiki_ofrecord import sample

pytestmark = pytest.mark.fast

SELECTED = ("--plugins", "inter_first,bert,wiki_ofrecord")


@pytest.fixture(autouse=True, scope="module")
def machine(sample_cache):
    """A machine without GPUs, outside of any job, whose embedded sample is a small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.delenv("RANK", raising=False)
        patch.delenv("PIPELOOM_JOB", raising=False)
        patch.setitem(sample._SETTINGS, "dupe_factor", 1)
        yield


def parse(*arguments, selected=SELECTED):
    return cli.parse([*selected, *map(str, arguments)])


def plan(*arguments, selected=SELECTED, **more):
    return make_plan(*parse(*arguments, selected=selected), **more)


def refused(*arguments, **more):
    with pytest.raises(UsageError) as raised:
        plan(*arguments, **more)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a plugin ``./mine.py`` and returns the selection of plugins with it in place of another."""
    monkeypatch.chdir(tmp_path)

    def write(text, instead_of=None):
        (tmp_path / "mine.py").write_text("import pipeloom\n" + text)
        names = [name for name in SELECTED[1].split(",") if name != instead_of]
        return "--plugins", ",".join(["./mine.py", *names])

    return write


# --- what is filled in


def test_the_plan_of_a_laptop():
    made = plan()
    assert (made.cluster.nodes, made.cluster.devices_per_node, made.cluster.device_type, made.cluster.logical) == (
        2,
        2,
        "cpu",
        True,
    )
    assert (made.mesh.pipeline, made.mesh.data, made.mesh.tensor) == (2, 2, 1)
    assert made.placement.stages == ((0, 1), (2, 3)) and made.split == (3, 1)
    assert made.micro_batch_size == 4 and made.config.train_global_batch_size == 32
    assert made.dataset.task == made.model.task == "pretraining"
    config = made.config
    assert (config.nnodes, config.nproc_per_node, config.nums_split, config.vocab_size) == (2, 2, 2, 4096)
    assert (config.train_steps, config.warmup_steps, config.epochs) == (200, 20, None)
    assert made.stage_parameters() == [
        sum(block.size for block in blocks) for blocks in made.model.stage_blocks(made.split)
    ]
    assert sum(made.stage_parameters()) == made.model.size
    assert len(made.order().indices(0)) == 32 and made.order().num_samples == len(made.dataset)


def test_it_describes_itself():
    made = plan("--strategy", "intra_first", selected=("--plugins", "bert,wiki_ofrecord"))
    lines = describe_plan(made).splitlines()
    assert [line.split()[0] for line in lines] == [
        "model",
        "data",
        "mesh",
        "partition",
        "placement",
        "node",
        "pipeline",
        "traffic",
        "batch",
    ]
    assert lines[0].startswith("model      bert, 1.") and "in 4 blocks" in lines[0]
    assert lines[2] == "mesh       pipeline 2 x data 2 on 2 logical nodes x 2 CPU devices"
    assert (
        lines[3].startswith("partition  stage 0: embeddings..layer.1 (") and "; stage 1: pretraining_head (" in lines[3]
    )
    assert lines[4] == "placement  node 0 | rank 0: stage 0 | rank 1: stage 1 |"
    assert lines[6].strip() == "pipeline hops: 0 between nodes, 2 inside; gradients all-reduced across 2 nodes"
    assert (
        lines[7].startswith("traffic    MB a step between nodes: gradients 8.")
        and "; inside: hidden states 4.2, tied embedding 4.2" in lines[7]
    )
    assert lines[8] == "batch      32 = 4 a micro-batch x 4 micro-batches x 2 data-parallel"


@pytest.mark.parametrize(
    "arguments, steps, warmup",
    [
        (["--train_steps", 50], 50, 5),
        (["--train_steps", 9], 9, 0),
        (["--warmup_steps", 0], 200, 0),
        (["--train_steps", 50, "--warmup_steps", 50], 50, 50),
        # As transformers' TrainingArguments.get_warmup_steps has them: a share is rounded up.
        (["--train_steps", 25, "--warmup_ratio", 0.1], 25, 3),
        (["--train_steps", 100, "--warmup_ratio", 0.07], 100, 8),
        (["--train_steps", 7, "--warmup_ratio", 1], 7, 7),
        (["--warmup_ratio", 0], 200, 0),
    ],
)
def test_steps_and_warmup(arguments, steps, warmup):
    config = plan(*arguments).config
    assert (config.train_steps, config.warmup_steps) == (steps, warmup)


@pytest.mark.parametrize("epochs", [1, 0.5, 2.5, 0])
def test_epochs_become_steps(epochs):
    made = plan("--epochs", epochs, "--train_global_batch_size", 16)
    assert made.config.train_steps == max(1, math.ceil(epochs * len(made.dataset) / 16))
    # Every sample at least once, and no whole step too many.
    assert 0 <= made.config.train_steps * 16 - epochs * len(made.dataset) < 16 or epochs == 0


@pytest.mark.parametrize(
    "arguments", [[], ["--epochs", "2"], ["--nnodes", 1, "--nproc_per_node", 3, "--nums_split", 3, "--device", "cpu"]]
)
def test_the_resolved_configuration_gives_the_same_plan_again(tmp_path, arguments):
    first = plan(*arguments)
    (tmp_path / "config.yaml").write_text(first.config.to_yaml(), encoding="utf-8")
    again = plan("--config", tmp_path / "config.yaml", selected=())
    assert again.config.to_flat_dict() == first.config.to_flat_dict() and again.config.plugins == first.config.plugins
    assert (again.cluster, again.mesh, again.split, again.placement) == (
        first.cluster,
        first.mesh,
        first.split,
        first.placement,
    )


def test_without_an_even_number_of_devices_there_is_one_stage():
    made = plan("--nnodes", 1, "--nproc_per_node", 3, "--train_global_batch_size", 36)
    assert (made.mesh.pipeline, made.mesh.data, made.split) == (1, 3, (4,))


# --- what does not fit


@pytest.mark.parametrize(
    "arguments, says",
    [
        (
            ["--train_global_batch_size", 33],
            "--train_global_batch_size 33 does not divide into 2 data-parallel ranks x 4 micro-batches "
            "(--grad_acc_steps): the nearest that does is 32",
        ),
        (
            ["--train_global_batch_size", 3],
            "--train_global_batch_size 3 does not divide into 2 data-parallel ranks x 4 micro-batches "
            "(--grad_acc_steps): the nearest that does is 8",
        ),
        (
            ["--grad_acc_steps", 5],
            "--train_global_batch_size 32 does not divide into 2 data-parallel ranks x 5 micro-batches "
            "(--grad_acc_steps): the nearest that does is 30",
        ),
        (
            ["--nums_split", 3],
            "--nums_split 3 does not divide the 4 devices of 2 logical nodes x 2 CPU devices: choose one of 1, 2, 4",
        ),
        (
            ["--nums_split", 8],
            "--nums_split 8 does not divide the 4 devices of 2 logical nodes x 2 CPU devices: choose one of 1, 2, 4",
        ),
        (
            ["--nums_split", 4, "--num_hidden_layers", 1],
            "--nums_split 4: the model has only 3 blocks to split, so at most 3 stages; "
            "add layers or lower --nums_split",
        ),
        (
            ["--epochs", 1, "--train_steps", 10],
            "--epochs and --train_steps both say how long to train: give one of them",
        ),
        (["--warmup_steps", 11, "--train_steps", 10], "--warmup_steps 11 is more than the 10 steps of the run"),
        (
            ["--warmup_steps", 0, "--warmup_ratio", 0.1],
            "--warmup_ratio and --warmup_steps both say how long to warm up: give one of them",
        ),
        (["--warmup_steps", 201], "--warmup_steps 201 is more than the 200 steps of the run"),
        (["--node_rank", 2], "--node_rank 2: nodes are numbered 0 to 1 (--nnodes 2)"),
        (["--nnodes", 4, "--node_rank", 4], "--node_rank 4: nodes are numbered 0 to 3 (--nnodes 4)"),
        (["--device", "cuda"], "--device cuda: this machine has no GPU; use --device cpu"),
        (
            ["--precision", "amp"],
            "--precision amp needs CUDA devices: OneFlow 0.9.0 has no half-precision products on a CPU; leave it out",
        ),
        (
            ["--recompute", "some"],
            "--recompute some: give none, full, or the number of layers of each stage to recompute",
        ),
        (
            ["--tensor_parallel", 3, "--num_attention_heads", 3],
            "--tensor_parallel 3 does not divide the 4 devices of 2 logical nodes x 2 CPU devices: choose one of 1, 2, "
            "4",
        ),
        (
            ["--tensor_parallel", 2, "--nums_split", 4],
            "--nums_split 4 does not divide the 2 tensor groups of 2 logical nodes x 2 CPU devices: choose one of 1, 2",
        ),
        (
            ["--tensor_parallel", 2, "--num_attention_heads", 3],
            "--tensor_parallel 2 does not divide --num_attention_heads 3: "
            "each rank of a tensor group takes as many heads",
        ),
        (["--hidden_size", 99], "--hidden_size 99 is not a multiple of --num_attention_heads 2"),
        (
            ["--max_position_embeddings", 64],
            "--seq_length 128 is longer than --max_position_embeddings 64: raise the latter",
        ),
    ],
)
def test_a_misfit_is_one_line(arguments, says):
    assert refused(*arguments) == says


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], []),
        (
            ["--grad_acc_steps", 1],
            ["hint: with --grad_acc_steps 1 the stages take turns and nothing overlaps; try --grad_acc_steps 4"],
        ),
        (["--nums_split", 1, "--grad_acc_steps", 1], []),
        (["--shard", "parameters"], []),
        (
            ["--shard", "optimizer", "--nums_split", 4],
            ["hint: --shard optimizer spreads over data-parallel ranks, and there is one; leave it out"],
        ),
        (["--tensor_parallel", 2], []),
        (
            ["--tensor_parallel", 2, "--nproc_per_node", 1],
            [
                "warning: tensor groups lie across nodes (ranks 0, 1): every layer all-reduces over the slow network; "
                "a --tensor_parallel that divides the 1 devices of a node avoids it"
            ],
        ),
        (
            ["--tensor_parallel", 2, "--vocab_size", 4097],
            [
                "note: sizes that --tensor_parallel 2 does not divide (vocabulary 4097) are filled up by 1 rows of "
                "zeros that have no effect"
            ],
        ),
    ],
)
def test_hints(flags, says):
    made = plan(*flags)
    assert hints(made) == says
    if made.mesh.tensor > 1:
        assert (
            f"; tensor groups of 2 {'across' if 'lie across nodes' in str(says) else 'inside'} "
            f"nodes" in describe_plan(made)
        )


def test_recompute_counts_the_layers_of_each_stage():
    flags = ["--num_hidden_layers", 6, "--plugins", "inter_first,bert,wiki_ofrecord,manual", "--split", "4,4"]
    assert plan(*flags, "--recompute", 2).recomputed() == [[1, 2], [0, 1]]
    assert plan(*flags, "--recompute", "full").recomputed() == [[1, 2, 3], [0, 1, 2]]
    assert plan("--recompute", "none").recomputed() == plan().recomputed() == [[], []]


def test_the_suggested_batch_size_fits():
    for batch in range(1, 20):
        try:
            plan("--train_global_batch_size", batch)
        except UsageError as error:
            nearest = int(str(error).split()[-1])
            assert (
                batch % 8
                and abs(nearest - batch) <= (4 if batch > 4 else 8 - batch)
                and nearest % 8 == 0
                and nearest > 0
            )
        else:
            assert batch % 8 == 0


def test_the_command_line_ends_in_that_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*SELECTED, "--nums_split", "3"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == (
        "pipeloom: error: --nums_split 3 does not divide the 4 devices of 2 logical nodes x 2 CPU devices: choose one "
        "of 1, 2, 4\n"
    )
    assert list(tmp_path.iterdir()) == []  # nothing is made for a run that cannot be


DATASET = """
from pipeloom.core.contract.dataset import Dataset, Field
class Short(Dataset):
    task, vocab_size = "pretraining", 100
    def __init__(self, fields):
        self.fields = {name: Field(name, (128,), "int32") for name in fields}
    def __len__(self):
        return 64
    def read(self, indices, names):
        return {}
    def describe(self):
        return "short"
@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("max_predictions", int, 20, help="")
@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return Short([%s])
"""


def test_a_dataset_without_a_field_that_the_model_needs(plugin):
    fields = (
        "'input_ids', 'input_mask', 'segments_ids', 'masked_lm_positions', 'masked_lm_ids', 'masked_lm_weights', "
        "'next_sentence_labels'"
    )
    selected = plugin(DATASET % fields, "wiki_ofrecord")
    assert refused(selected=selected) == (
        "model 'bert' needs the field 'segment_ids', which the dataset does not have (did you mean 'segments_ids'?); "
        f"it has: {fields.replace(chr(39), '')}"
    )
    selected = plugin(DATASET % fields.replace("segments", "segment"), "wiki_ofrecord")
    assert len(plan(selected=selected).dataset) == 64


@pytest.mark.parametrize("answer", [[4], [4, 0], [2, 3], [5, -1], [1, 1, 2]])
def test_a_partitioner_is_checked(plugin, answer):
    selected = plugin(f"@pipeloom.hookimpl\ndef pipeloom_partition(blocks):\n    return {answer}\n")
    assert refused(selected=selected).endswith(
        f"mine.py' (file), hook pipeloom_partition: it answers {answer}, not 2 positive counts that sum up to the 4 "
        "blocks"
    )


@pytest.mark.parametrize(
    "stages, says",
    [
        ([[0, 1, 2, 3]], "it places 1 stages, the mesh has 2"),
        ([[0], [1], [2], [3]], "it places 4 stages, the mesh has 2"),
        (
            [[0, 1], [2, 2]],
            "its answer does not fit: a placement must use each of the ranks 0..3 once, not [0, 1, 2, 2]",
        ),
    ],
)
def test_a_strategy_is_checked(plugin, stages, says):
    text = (
        "from pipeloom.core.contract.placement import Placement\n@pipeloom.hookimpl\ndef pipeloom_place(cluster):\n"
        f"    return Placement(cluster, {stages})\n"
    )
    assert refused(selected=plugin(text, "inter_first")).endswith(f"mine.py' (file), hook pipeloom_place: {says}")


def test_a_layout_is_checked(plugin):
    text = (
        "from pipeloom.core.contract.topology import Mesh\n@pipeloom.hookimpl\ndef pipeloom_choose_layout():\n    "
        "return Mesh(3, 1)\n"
    )
    assert refused(selected=plugin(text)).endswith(
        "mine.py' (file), hook pipeloom_choose_layout: it answers what does not fit: the mesh pipeline 3 x data 1 x "
        "tensor 1 uses 3 devices, the cluster has 4 (2 logical nodes x 2 CPU devices)"
    )


# --- the cluster


def cluster(*arguments, **more):
    found = resolve_cluster(parse(*arguments)[0], **more)
    return found.nodes, found.devices_per_node, found.device_type, found.logical


def test_the_cluster_of_a_machine_with_gpus(monkeypatch):
    machine_with(monkeypatch, A100, A100, V100, P100)
    assert cluster() == (1, 4, "cuda", True)
    assert cluster("--nproc_per_node", 2) == (1, 2, "cuda", True)
    assert cluster("--nnodes", 2, "--nproc_per_node", 2) == (2, 2, "cuda", True)
    assert cluster("--nnodes", 2, "--node_rank", 1) == (2, 4, "cuda", False)
    assert cluster("--device", "cpu") == (2, 2, "cpu", True)
    for arguments, needed in ((["--nproc_per_node", 8], 8), (["--nnodes", 2, "--nproc_per_node", 4], 8)):
        with pytest.raises(UsageError) as raised:
            cluster(*arguments)
        assert str(raised.value) == (
            f"{needed} ranks on this machine need {needed} GPUs, it has 4: lower --nproc_per_node, or use --device cpu"
        )


def test_ranks_get_no_gpu_that_the_engine_has_no_code_for(monkeypatch):
    machine_with(monkeypatch, A100, H100, P100)
    assert cluster("--nproc_per_node", 1) == (1, 1, "cuda", True)
    assert cluster("--device", "cpu") == (2, 2, "cpu", True)
    for arguments, more in (([], {}), (["--nproc_per_node", 2], {}), ([], {"world_size": 3})):
        with pytest.raises(UsageError) as raised:
            cluster(*arguments, **more)
        assert str(raised.value).startswith(
            "GPU 1 (NVIDIA H100 80GB HBM3, compute capability 9.0) cannot run OneFlow 0.9.0"
        )
        assert "CUDA_VISIBLE_DEVICES=0,2" in str(raised.value)


def test_a_driver_that_cannot_be_used_is_told_whatever_number_of_ranks_there_is(monkeypatch):
    machine_with(monkeypatch, fault="no library")
    with pytest.raises(UsageError, match="^no library; or use --device cpu"):
        cluster("--nproc_per_node", 4)


@pytest.mark.parametrize(
    "arguments, world, nodes",
    [
        ([], 4, (1, 4)),
        (["--nnodes", 2], 4, (2, 2)),
        (["--nproc_per_node", 2], 6, (3, 2)),
        (["--nnodes", 2, "--gpu_num_per_node", 3], 6, (2, 3)),
    ],
)
def test_under_another_launcher_the_world_has_its_size(arguments, world, nodes):
    assert cluster(*arguments, world_size=world)[:2] == nodes


@pytest.mark.parametrize(
    "arguments, world, says",
    [
        (["--nnodes", 2, "--nproc_per_node", 2], 3, "--nnodes 2 x --nproc_per_node 2 is 4, but 3 ranks were launched"),
        (["--nnodes", 2], 3, "--nnodes 2 x --nproc_per_node 1 is 2, but 3 ranks were launched"),
        (["--nproc_per_node", 2], 5, "--nnodes 2 x --nproc_per_node 2 is 4, but 5 ranks were launched"),
        (["--nproc_per_node", 4], 2, "--nnodes 1 x --nproc_per_node 4 is 4, but 2 ranks were launched"),
    ],
)
def test_a_world_of_another_size_is_refused(arguments, world, says):
    assert refused(*arguments, world_size=world) == says


def test_under_another_launcher_several_nodes_must_be_told():
    assert refused(world_size=4, local_rank_differs=True) == (
        "several nodes were launched: say how many with --nnodes, or how many ranks each has with --nproc_per_node"
    )
    assert plan("--nnodes", 2, world_size=4, local_rank_differs=True).cluster.devices_per_node == 2


@pytest.mark.parametrize("arguments", [[], ["--nnodes", "4", "--nproc_per_node", "1"], ["--nproc_per_node", "1"]])
def test_the_ranks_plan_what_their_launcher_planned(monkeypatch, tmp_path, arguments):
    """An intra_first run, where the number of nodes decides the placement."""
    command = ["--plugins", "intra_first,bert,wiki_ofrecord", "--output_dir", str(tmp_path / "run"), *arguments]
    launched, plans = [], []
    monkeypatch.setattr(train_command, "launch", lambda spec: launched.append(spec) or 0)
    monkeypatch.setattr(train_command, "run_rank", lambda body: body())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    monkeypatch.setitem(
        sys.modules,
        "pipeloom.core.training.rank_life",
        SimpleNamespace(train_in_rank=lambda plan, *_: plans.append(plan) or 0),
    )
    assert cli.main(command) == 0
    expected, spec = make_plan(*cli.parse(command)), launched[0]
    for local_rank, rank in enumerate(spec.ranks):
        for name, value in {
            "RANK": rank,
            "LOCAL_RANK": local_rank,
            "WORLD_SIZE": spec.world_size,
            "MASTER_ADDR": spec.master_addr,
            "MASTER_PORT": spec.master_port,
            "PIPELOOM_JOB": spec.job_text(spec.resume),
        }.items():
            monkeypatch.setenv(name, str(value))
        assert cli.main(list(spec.command[2:])) == 0
        assert (plans[-1].cluster, plans[-1].placement) == (expected.cluster, expected.placement)
    assert (
        len(plans) == expected.cluster.size and os.environ["CUDA_VISIBLE_DEVICES"] == ""
    )  # on a CPU the engine sees no GPU


#: A model that reads the field 'extra' too, from a plugin that adds it under the name {name}.
ADDS = """
import dataclasses
import numpy as np
import pipeloom
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.sample_fields import SampleField

EXTRA = Field("extra", (1,), "float32")

@pipeloom.hookimpl
def pipeloom_sample_fields(config):
    compute = lambda seed, step, indices: np.zeros((len(indices), 1), np.float32)
    return [SampleField(Field("{name}", (1,), "float32"), compute)]

@pipeloom.hookimpl(hookwrapper=True)
def pipeloom_build_model(config, task):
    result = yield
    model = result.get_result()
    head = dataclasses.replace(model.blocks[-1], inputs=(*model.blocks[-1].inputs, "extra"))
    result.force_result(dataclasses.replace(model, blocks=(*model.blocks[:-1], head), {change}))
"""


def test_blocks_may_read_what_a_plugin_adds_to_every_batch(tmp_path):
    def selected(name, change=""):
        path = tmp_path / f"{name}{len(change)}.py"
        path.write_text(ADDS.format(name=name, change=change))
        return ("--plugins", f"inter_first,bert,wiki_ofrecord,{path}")

    made = plan("--eval_every", 10, selected=selected("extra"))
    assert made.evaluation is not None and "extra" in made.fields and "extra" not in made.dataset.fields
    assert "needs the field 'extra', which the dataset does not have (did you mean 'extras'?)" in refused(
        selected=selected("extras")
    )
    for where, change in (("labels", "labels=(*model.labels, EXTRA)"), ("normalize", "normalize=('extra',)")):
        assert f"has the field 'extra' in '{where}', which is for fields of the dataset" in refused(
            selected=selected("extra", change)
        )
