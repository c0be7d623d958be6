"""What ranks send each other in a step, counted by hand; and the form in which a tied embedding travels."""

from __future__ import annotations

import pytest

from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.blocks import ParameterSpec, shard_dim
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.traffic import copied_parameters

pytestmark = pytest.mark.fast
MODEL = ["--num_hidden_layers", "2", "--num_attention_heads", "1", "--seq_length", "128", "--hidden_size", "64"]
TABLE, V, H, L = 4096 * 64 * 4, 4096, 64, 128


def plan(*flags, strategy="inter_first"):
    return make_plan(*parse(["--plugins", f"{strategy},bert,wiki_ofrecord", *MODEL, *map(str, flags)]))


def test_hidden_states_go_forward_and_their_gradients_back():
    traffic = plan("--train_global_batch_size", 16, "--tie_embeddings", "false").traffic()
    each = 16 / 2 * L * H * 4
    assert traffic.hidden == {(0, 2): each, (2, 0): each, (1, 3): each, (3, 1): each} and not traffic.shared


def test_looked_up_vectors_go_from_the_owner_to_the_borrower():
    traffic = plan("--train_global_batch_size", 16, "--nums_split", 4, "--tied_transfer", "vectors").traffic()
    assert traffic.shared == {(3, 0): 16 * L * H * 4, (0, 3): 16 * L * H * 4} and not traffic.gradients
    assert sorted(traffic.hidden) == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]


def test_a_copy_of_the_table_costs_its_gradient_once_a_step_whatever_the_micro_batches():
    for micro_batches in (1, 2, 8):
        made = plan("--tied_transfer", "table", "--grad_acc_steps", micro_batches)
        assert made.traffic().shared == dict.fromkeys([(0, 2), (2, 0), (1, 3), (3, 1)], TABLE / 2)
        # Both stages reduce their own gradients of it: d = 2, so once each way.
        first, second = made.stage_parameters()
        assert made.traffic().gradients == {
            **dict.fromkeys([(0, 1), (1, 0)], first * 4),
            **dict.fromkeys([(2, 3), (3, 2)], second * 4),
        }


def test_tensor_groups_split_the_parameters_and_all_reduce_in_every_layer():
    flags = [
        "--train_global_batch_size",
        16,
        "--num_attention_heads",
        2,
        "--nproc_per_node",
        4,
        "--tie_embeddings",
        "false",
    ]
    made = plan(*flags, "--tensor_parallel", 2)
    assert made.placement.stages == ((0, 1, 2, 3), (4, 5, 6, 7)) and made.mesh.data == 2
    traffic, share = made.traffic(), 16 / 2 * L
    # Rings of the ranks that hold the same part: 0-2 and 1-3 of the first stage.
    first = sum(
        spec.size / (1 if spec.tensor_dim is None else 2)
        for block in made.model.blocks[: made.split[0]]
        for spec in block.parameters
    )
    assert {pair: amount for pair, amount in traffic.gradients.items() if max(pair) < 4} == dict.fromkeys(
        [(0, 2), (2, 0), (1, 3), (3, 1)], pytest.approx(first * 4)
    )
    # The embedding looks up in parts, a layer adds up twice forward and twice backward: d = 2, so once each way.
    layers = sum(block.name.startswith("layer") for block in made.model.blocks[: made.split[0]])
    assert traffic.tensor[0, 1] == traffic.tensor[3, 2] == share * 4 * H * (1 + 4 * layers)
    # Each rank of a group sends its part of the hidden states.
    assert traffic.hidden == dict.fromkeys(
        [(r, r + 4) for r in range(4)] + [(r + 4, r) for r in range(4)], share / 2 * H * 4
    )


def test_what_sharding_sends():
    flags = ["--nums_split", 1, "--nproc_per_node", 1, "--tie_embeddings", "false", "--grad_acc_steps", 2]
    whole, optimizer, parameters = (
        plan(*flags, "--shard", shard).traffic() for shard in ("none", "optimizer", "parameters")
    )
    assert whole.gradients == optimizer.gradients == dict.fromkeys([(0, 1), (1, 0)], plan(*flags).model.size * 4)
    model = plan(*flags).model
    uses = sum(spec.size * (3 * spec.products + 2 * spec.lookups) for spec in model.parameters)
    assert parameters.gradients == dict.fromkeys(
        [(0, 1), (1, 0)], 2 * uses * 4 / 2
    )  # two micro-batches, half of each parameter
    # The words' vectors are put together from both ranks, the labels' rows too; gradients of the rest go as before.
    words = plan(*flags, "--shard", "vocabulary").traffic()
    of_words = sum(spec.size for spec in model.parameters if spec.vocabulary)
    assert words.gradients == dict.fromkeys([(0, 1), (1, 0)], (model.size - of_words) * 4) and of_words > model.size / 2
    batch = plan(*flags).batch
    vectors, rows = 4 * batch.tokens * H, 4 * batch.samples * plan(*flags).config.max_predictions * (2 * H + 4)
    assert words.tensor == dict.fromkeys([(0, 1), (1, 0)], vectors + rows)
    assert shard_dim(ParameterSpec("w", (7, 4)), 2, 1) == 1 and shard_dim(ParameterSpec("w", (7, 5)), 2, 1) is None
    assert (
        shard_dim(ParameterSpec("w", (8, 4), tensor_dim=0), 2, 2) == 1
        and shard_dim(ParameterSpec("b", (8,), tensor_dim=0), 2, 2) is None
    )


def test_a_copied_parameter_counts_once_in_the_model_and_on_each_stage_that_holds_it():
    vectors, table = (plan("--tied_transfer", how) for how in ("vectors", "table"))
    assert table.model.size == vectors.model.size and len(table.model.parameters) == len(vectors.model.parameters)
    assert sum(table.stage_parameters()) == sum(vectors.stage_parameters()) + V * H
    word = ParameterSpec(
        "bert.embeddings.word_embeddings.weight", (V, H), tensor_dim=0, products=0, lookups=1, vocabulary=True
    )
    assert (
        copied_parameters(table.model, table.split) == [(word, [0, 1])]
        and copied_parameters(vectors.model, vectors.split) == []
    )
    assert "input_ids" in table.model.blocks[0].inputs and "input_ids" not in vectors.model.blocks[0].inputs


@pytest.mark.parametrize(
    "strategy, flags, copied",
    [
        (
            "inter_first",
            ["--train_global_batch_size", 40],
            False,
        ),  # 5120 tokens, 4096 rows: more bytes, but they travel both ways at once
        ("inter_first", ["--train_global_batch_size", 64], False),  # as long between nodes, and no all-reduce of a copy
        ("inter_first", ["--train_global_batch_size", 80], True),
        (
            "intra_first",
            ["--train_global_batch_size", 80],
            False,
        ),  # the copy's all-reduce would cross, vectors stay inside
        (
            "inter_first",
            ["--train_global_batch_size", 96, "--nnodes", 1],
            True,
        ),  # nothing crosses: the shorter way in all
        (
            "inter_first",
            ["--train_global_batch_size", 96, "--nnodes", 1, "--nproc_per_node", 1],
            False,
        ),  # one stage: no copy
        ("inter_first", ["--train_global_batch_size", 96, "--tie_embeddings", "false"], False),
    ],
)
def test_the_form_that_takes_the_link_for_a_shorter_time_is_chosen(strategy, flags, copied):
    made = plan(*flags, strategy=strategy)
    assert bool(copied_parameters(made.model, made.split)) == copied
