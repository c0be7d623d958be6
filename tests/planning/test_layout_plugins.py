"""The plugins that lay a model out besides the two strategies: partitioners, placements by hand, the example."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeloom.core.base.errors import ContractError, UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.options import Options
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import describe_plan

pytestmark = pytest.mark.fast
WRONG = "--split: 'split' must be whole numbers with commas between them, or stages like E+12T|12T+H"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "my_strategy.py"


def plan(plugins, *flags):
    return make_plan(*parse(["--plugins", f"{plugins},bert,wiki_ofrecord", *map(str, flags)]))


def refused(plugins, *flags):
    with pytest.raises(UsageError) as raised:
        plan(plugins, *flags)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- partitioners


def test_by_flops_takes_the_head_for_what_it_computes_and_the_embedding_for_nothing():
    flags = ["--num_hidden_layers", 4, "--num_attention_heads", 4, "--vocab_size", 30522]
    parameters, flops = plan("inter_first", *flags), plan("inter_first,by_flops", *flags)
    assert parameters.split == (5, 1)  # the tied table of 7.8 M counts as parameters, a layer has 0.8 M
    assert flops.split == (4, 2)  # 20 of 128 tokens are predicted: the head is 1.8 layers of work
    flops_of = [
        sum(block.cost.of(flops.batch).flops for block in blocks) for blocks in flops.model.stage_blocks(flops.split)
    ]
    assert max(flops_of) == min(
        max(
            sum(b.cost.of(flops.batch).flops for b in flops.model.blocks[:k]),
            sum(b.cost.of(flops.batch).flops for b in flops.model.blocks[k:]),
        )
        for k in range(1, 6)
    )
    assert "% of the FLOPs)" in describe_plan(flops) and "imbalance" in describe_plan(flops)


@pytest.mark.parametrize("given", ["1,2,1,2", "E|2T|T|T+H", " E | 2T | 1T | T + H ", [1, 2, 1, 2]])
def test_a_split_by_hand(given, tmp_path):
    flags = ["--nums_split", 4, "--num_hidden_layers", 4]
    if isinstance(given, str):
        made = plan("inter_first,manual", *flags, "--split", given)
    else:
        (tmp_path / "c.yaml").write_text(f"parallel: {{split: {given}}}\n")
        made = plan("inter_first,manual", *flags, "--config", tmp_path / "c.yaml")
    assert made.split == (1, 2, 1, 2)
    (tmp_path / "resolved.yaml").write_text(made.config.to_yaml())
    assert make_plan(*parse(["--config", str(tmp_path / "resolved.yaml")])).split == (1, 2, 1, 2)


@pytest.mark.parametrize(
    "split, says",
    [
        (
            "2,3",
            "--split 2,3 gives out 5 blocks, the model has 4 (embeddings, ..., pretraining_head); each stage needs one "
            "at the least",
        ),
        (
            "4,0",
            "--split 4,0 gives out 4 blocks, the model has 4 (embeddings, ..., pretraining_head); each stage needs one "
            "at the least",
        ),
        ("1,1,2", "--split 1,1,2 has 3 stages, --nums_split is 2: make them agree"),
        ("1;3", f"{WRONG}, not '1;3'"),
        ("5,-1", f"{WRONG}, not '5,-1'"),
        ("E+1T|1T", f"{WRONG}, not 'E+1T|1T'"),
        ("T|E+H", f"{WRONG}, not 'T|E+H'"),
        ("E+2T|X+H", f"{WRONG}, not 'E+2T|X+H'"),
        (None, "plugin 'manual' needs --split: 2 numbers of blocks that sum up to 4"),
    ],
)
def test_a_split_that_does_not_fit(split, says):
    assert refused("inter_first,manual", *([] if split is None else ["--split", split])) == says


# --- strategies


def test_data_parallel_has_one_stage():
    made = plan("data_parallel")
    assert (made.mesh.pipeline, made.mesh.data) == (1, 4) and made.placement.stages == ((0, 1, 2, 3),)
    assert plan("data_parallel", "--nums_split", 1).mesh == made.mesh
    assert (
        refused("data_parallel", "--nums_split", 2)
        == "--nums_split 2: data_parallel has one stage; choose another strategy, or leave it out"
    )


def test_stages_by_hand(tmp_path):
    made = plan("manual_placement", "--stages", "3,0;1,2")
    assert made.placement.stages == ((0, 3), (1, 2)) and made.mesh.pipeline == 2
    assert "pipeline hops: 0 between nodes, 2 inside" in describe_plan(made)
    (tmp_path / "c.yaml").write_text("parallel: {stages: [[2], [0], [3], [1]]}\n")
    made = plan("manual_placement", "--config", tmp_path / "c.yaml")
    assert made.placement.stages == ((2,), (0,), (3,), (1,))
    (tmp_path / "resolved.yaml").write_text(made.config.to_yaml())
    assert make_plan(*parse(["--config", str(tmp_path / "resolved.yaml")])).placement == made.placement


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "plugin 'manual_placement' needs --stages: the ranks 0 to 3 dealt to stages, for instance \"0,1;2,3\""),
        (["--stages", "0,1;2,3", "--nums_split", 4], "--stages has 2 stages, --nums_split is 4: leave the latter out"),
        (["--stages", "0,1;2"], "a placement must use each of the ranks 0..3 once, not [0, 1, 2]"),
        (["--stages", "0,1,2;3"], "all stages must have the same number of ranks, not [3, 1]"),
        (
            ["--stages", "0-1;2-3"],
            "--stages: 'stages' must be lists of whole numbers with semicolons between them, not '0-1;2-3'",
        ),
    ],
)
def test_stages_that_do_not_fit(flags, says):
    assert refused("manual_placement", *flags) == says


@pytest.mark.parametrize(
    "plugins, flags", [("manual_placement,manual", ["--stages", "0,1;2,3", "--split", "3,1"]), ("data_parallel", [])]
)
def test_one_device_leaves_nothing_to_lay_out(plugins, flags):
    """What ``parity`` compares with: the same plugins in a single process."""
    made = plan(plugins, "--nnodes", 1, "--nproc_per_node", 1, *flags)
    assert made.placement.stages == ((0,),) and made.split == (4,)


def test_an_option_of_a_plugin_survives_the_resolved_configuration(tmp_path):
    made = plan(EXAMPLE, "--head_on_node_0", "false")
    (tmp_path / "resolved.yaml").write_text(made.config.to_yaml())
    again = make_plan(*parse(["--config", str(tmp_path / "resolved.yaml")]))
    assert again.config.head_on_node_0 is False and again.placement == made.placement
    for section in ("plugins", "strategy"):
        with pytest.raises(ContractError, match=f"the option 'mine' cannot be in the section '{section}'"):
            Options().add("mine", int, 1, help="", section=section)


def test_the_example_is_a_strategy_in_less_than_40_lines():
    assert plan(EXAMPLE).placement.stages == ((2, 3), (0, 1))
    assert plan(EXAMPLE, "--head_on_node_0", "false").placement.stages == ((0, 1), (2, 3))
    assert plan(EXAMPLE, "--nums_split", 4).placement.stages == ((3,), (2,), (1,), (0,))
    assert len(EXAMPLE.read_text().splitlines()) < 40


def test_a_schedule_that_rises_is_refused_before_the_engine():
    assert (
        refused("inter_first", "--min_learning_rate", 0.1) == "--min_learning_rate 0.1 is above --learning_rate 0.001"
    )


# --- what layouts are chosen by


def test_a_layout_may_be_chosen_by_the_costs_of_the_model(tmp_path, monkeypatch):
    """Which are there when it is chosen; signatures without the model are those of plugins for contract 1."""
    monkeypatch.chdir(tmp_path)
    text = (
        "import pipeloom\nfrom pipeloom.core.contract.placement import Placement\n"
        "from pipeloom.core.contract.topology import Mesh\n"
        "@pipeloom.hookimpl\ndef pipeloom_choose_layout({layout}):\n    return Mesh({stages}, 4 // ({stages}))\n"
        "@pipeloom.hookimpl\ndef pipeloom_place({place}):\n"
        "    assert {known}\n"
        "    width = cluster.size // mesh.pipeline\n"
        "    stages = [range(first, first + width) for first in range(0, cluster.size, width)]\n"
        "    return Placement.of(cluster, stages)\n"
    )
    by_costs = "4 if sum(block.cost.flops for block in model.blocks) > 1e5 else 1"
    new = dict(layout="cluster, model, config", place="cluster, mesh, model, config", stages=by_costs)
    Path("new.py").write_text(text.format(**new, known="len(model.blocks) == 4"))
    old = dict(layout="cluster, config", place="cluster, mesh, config", stages="2")
    Path("old.py").write_text(text.format(**old, known="config.nums_split == mesh.pipeline"))
    assert plan("./new.py").mesh.pipeline == 4
    assert (
        plan("./new.py", "--hidden_size", 8, "--num_hidden_layers", 2, "--tie_embeddings", "false").mesh.pipeline == 1
    )
    assert plan("./old.py").mesh.pipeline == 2


def test_a_model_without_products_is_balanced():
    from pipeloom.core.planning.report import imbalance

    assert imbalance([0, 0]) == 0.0 and imbalance([1, 3]) == 0.5
