"""What BERT's plugin states about its blocks: parameters, names, costs, the fields of each stage."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from found_tasks import PRETRAINING

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import Amounts, BatchSize, Cost, index_by_name, stage_inputs
from pipeloom.plugins.models import bert

pytestmark = pytest.mark.fast

LARGE = dict(num_hidden_layers=24, num_attention_heads=16, vocab_size=30522)


def build(task=PRETRAINING, **changes):
    config = dict(
        num_hidden_layers=1,
        num_attention_heads=2,
        hidden_size=None,
        intermediate_size=None,
        vocab_size=100,
        max_position_embeddings=512,
        seq_length=128,
        max_predictions=20,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        tie_embeddings=True,
        init_from=None,
        tensor_parallel=1,
    )
    return bert.pipeloom_build_model(config=SimpleNamespace(**{**config, **changes}), task=task)


def expected_size(layers, h, v, positions, tied):
    """Devlin et al. 2019, with pooler, MLM and NSP heads and the decoder's bias."""

    def dense(out, inner):
        return out * inner + out

    norm = 2 * h
    embeddings = v * h + positions * h + 2 * h + norm
    layer = 4 * dense(h, h) + norm + dense(4 * h, h) + dense(h, 4 * h) + norm
    head = dense(h, h) + dense(h, h) + norm + v + dense(2, h)
    return embeddings + layers * layer + head + (0 if tied else v * h)


@pytest.mark.parametrize("tied, size", [(True, 336_226_108), (False, 367_480_636)])
def test_bert_large_has_its_number_of_parameters(tied, size):
    model = build(tie_embeddings=tied, **LARGE)
    assert model.size == size == expected_size(24, 1024, 30522, 512, tied)
    assert model.size == sum(parameter.size for parameter in model.parameters)


@pytest.mark.parametrize("tied", [True, False])
def test_other_sizes_count_by_the_same_formula(tied):
    model = build(
        num_hidden_layers=3, num_attention_heads=4, vocab_size=77, max_position_embeddings=200, tie_embeddings=tied
    )
    assert model.size == expected_size(3, 256, 77, 200, tied)
    odd = build(num_attention_heads=3, hidden_size=48, intermediate_size=50, tie_embeddings=tied)
    assert odd.size == expected_size(1, 48, 100, 512, tied) - 2 * 48 * (4 * 48 - 50) - (4 * 48 - 50)


#: BertForPreTraining of transformers with one layer, in the order of the forward pass.
NAMES = """
bert.embeddings.word_embeddings.weight bert.embeddings.position_embeddings.weight
bert.embeddings.token_type_embeddings.weight bert.embeddings.LayerNorm.weight bert.embeddings.LayerNorm.bias
bert.encoder.layer.0.attention.self.query.weight bert.encoder.layer.0.attention.self.query.bias
bert.encoder.layer.0.attention.self.key.weight bert.encoder.layer.0.attention.self.key.bias
bert.encoder.layer.0.attention.self.value.weight bert.encoder.layer.0.attention.self.value.bias
bert.encoder.layer.0.attention.output.dense.weight bert.encoder.layer.0.attention.output.dense.bias
bert.encoder.layer.0.attention.output.LayerNorm.weight bert.encoder.layer.0.attention.output.LayerNorm.bias
bert.encoder.layer.0.intermediate.dense.weight bert.encoder.layer.0.intermediate.dense.bias
bert.encoder.layer.0.output.dense.weight bert.encoder.layer.0.output.dense.bias
bert.encoder.layer.0.output.LayerNorm.weight bert.encoder.layer.0.output.LayerNorm.bias
bert.pooler.dense.weight bert.pooler.dense.bias
cls.predictions.transform.dense.weight cls.predictions.transform.dense.bias
cls.predictions.transform.LayerNorm.weight cls.predictions.transform.LayerNorm.bias
cls.predictions.bias cls.seq_relationship.weight cls.seq_relationship.bias
""".split()


@pytest.mark.parametrize("tied, extra", [(True, []), (False, ["cls.predictions.decoder.weight"])])
def test_names_are_those_of_hugging_face(tied, extra):
    names = [parameter.name for parameter in build(tie_embeddings=tied).parameters]
    assert sorted(names) == sorted(NAMES + extra)


def test_shapes_initial_values_and_decay():
    specs = {parameter.name: parameter for parameter in build(num_attention_heads=2, tie_embeddings=False).parameters}
    assert specs["bert.embeddings.word_embeddings.weight"].shape == (100, 128)
    assert specs["bert.embeddings.position_embeddings.weight"].shape == (512, 128)
    assert specs["bert.embeddings.token_type_embeddings.weight"].shape == (2, 128)
    assert specs["bert.encoder.layer.0.intermediate.dense.weight"].shape == (512, 128)  # (out, in)
    assert specs["bert.encoder.layer.0.output.dense.weight"].shape == (128, 512)
    assert specs["cls.predictions.decoder.weight"].shape == (100, 128)
    assert specs["cls.seq_relationship.weight"].shape == (2, 128)
    for name, spec in specs.items():
        norm, bias = "LayerNorm.weight" in name, name.endswith("bias")
        assert spec.init == ("ones" if norm else "zeros" if bias else "normal"), name
        assert spec.decay == (not norm and not bias), name
        assert spec.std == 0.02


@pytest.mark.parametrize("tied", [True, False])
def test_the_word_table_lives_in_one_block(tied):
    model = build(tie_embeddings=tied)
    owners = [block.name for block in model.blocks for parameter in block.parameters if parameter.name == bert.WORD]
    assert owners == ["pretraining_head" if tied else "embeddings"]
    names = [parameter.name for parameter in model.parameters]
    assert len(set(names)) == len(names)
    assert build(tie_embeddings=False).size - build(tie_embeddings=True).size == 100 * 128


def test_the_table_is_loaded_where_it_lives():
    for tied in (True, False):
        model = build(num_hidden_layers=2, tie_embeddings=tied)
        stages = model.stage_blocks((2, 2))
        assert [[block.name for block in stage] for stage in stages] == [
            ["embeddings", "layer.0"],
            ["layer.1", "pretraining_head"],
        ]
        head = (
            "dropout_seeds",
            "input_mask",
            "masked_lm_ids",
            "masked_lm_positions",
            "masked_lm_weights",
            "next_sentence_labels",
            "sample_weight",
        )
        body = ("dropout_seeds", "input_mask", "segment_ids")
        first, last = (stage_inputs(stage, model.blocks) for stage in stages)
        assert first == (body if tied else tuple(sorted((*body, "input_ids"))))
        assert last == (tuple(sorted((*head, "input_ids"))) if tied else head)


def test_a_stage_in_the_middle_loads_masks_alone():
    model = build(num_hidden_layers=3)
    assert stage_inputs(model.blocks[2:3], model.blocks) == ("dropout_seeds", "input_mask")
    whole = stage_inputs(model.blocks, model.blocks)
    assert len(set(whole)) == len(whole) == 9


@pytest.mark.parametrize("layers, heads, vocab, length, predictions", [(24, 16, 30522, 512, 76), (2, 2, 100, 64, 10)])
def test_flops_are_those_of_the_products(layers, heads, vocab, length, predictions):
    h = 64 * heads
    f, share = 4 * h, predictions / length
    layer = 2 * (4 * h * h + 2 * h * f) + 2 * (2 * length * h)  # projections and MLP; scores and context
    head = share * 2 * (h * h + h * vocab) + 2 * h * h / length  # transform and decoder; pooler, once a sequence
    model = build(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=vocab,
        seq_length=length,
        max_predictions=predictions,
    )
    assert [block.cost.flops for block in model.blocks[1:-1]] == [layer] * layers
    sample = BatchSize.of(1, length)
    assert model.blocks[-1].cost.of(sample).flops == pytest.approx(head * length)
    # Predictions and pooler are a fixed number for each sample, however long it is.
    assert model.blocks[-1].cost.of(BatchSize(1, 0)).flops == pytest.approx(head * length)
    # Embeddings: additions only, some per value.
    assert model.flops(sample) == pytest.approx(3 * length * (layers * layer + head + 10 * h))
    assert [block.cost.output_bytes for block in model.blocks] == [4.0 * h] * (layers + 1) + [0.0]


def test_the_flops_of_bert_large_are_six_for_each_multiplied_parameter():
    # Kaplan et al. 2020: 6 N a token, N without embeddings; attention adds 12 layers L h, the head is apart.
    model = build(**LARGE)
    layers = sum(block.cost.flops for block in model.blocks[1:-1]) * 3
    assert layers == pytest.approx(6 * 24 * 12 * 1024**2 + 12 * 24 * 128 * 1024, rel=1e-12)


def test_what_makes_up_the_loss():
    model = build(num_hidden_layers=2)
    assert (model.losses, model.outputs, model.normalize) == (
        {"mlm_loss": 1.0, "nsp_loss": 1.0},
        ("mlm_loss", "nsp_loss"),
        ("masked_lm_weights",),
    )
    assert model.evaluated == ("mlm_loss", "nsp_loss", "mlm_accuracy", "nsp_accuracy")
    assert index_by_name(model.blocks) == {"embeddings": 0, "layer.0": 1, "layer.1": 2, "pretraining_head": 3}
    assert model.sizes["hidden"] == 128 and model.sizes["intermediate"] == 512 and model.sizes["layers"] == 2


@pytest.mark.parametrize(
    "changes, says",
    [
        (
            dict(hidden_size=100, num_attention_heads=3),
            "--hidden_size 100 is not a multiple of --num_attention_heads 3",
        ),
        (dict(seq_length=513), "--seq_length 513 is longer than --max_position_embeddings 512: raise the latter"),
    ],
)
def test_sizes_that_do_not_fit(changes, says):
    with pytest.raises(UsageError) as raised:
        build(**changes)
    assert str(raised.value) == says


def test_a_cost_is_by_token_and_by_sample():
    cost = Cost(2.0, 3.0, 4.0, 5.0, 20.0, 30.0, 40.0, 50.0)
    assert cost.of(BatchSize.of(2, 10)) == Amounts(80.0, 120.0, 160.0, 200.0)
    assert Cost(2.0, 3.0, 4.0).of(BatchSize(7, 1)) == Amounts(2.0, 3.0, 4.0, 0.0)
