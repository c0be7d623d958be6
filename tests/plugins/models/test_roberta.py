"""RoBERTa: its parameters against the published model, its positions against transformers' rule, its folder in and
out.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy_engine.ops import NumpyScope
from numpy_engine.tape import REAL, Tensor
from safetensors.numpy import load_file, save_file

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.blocks import DROPOUT_SEEDS
from pipeloom.core.host.task_choice import find_task

pytestmark = pytest.mark.fast

SMALL = "--num_hidden_layers 1 --num_attention_heads 2 --hidden_size 8 --seq_length 12 --max_position_embeddings 14"
PADDING = 1


def build(*flags, task="masked_lm", vocab_size=40):
    config, plugins = parse(["--plugins", "inter_first,roberta,wiki_ofrecord", *flags])
    config = config.replace(vocab_size=vocab_size)
    return plugins.hook.pipeloom_build_model(config=config, task=find_task(plugins, config, task))


def test_it_has_the_parameters_of_roberta_base():
    """124,697,433: what transformers 5 counts of RobertaForMaskedLM (roberta-base), the decoder tied."""
    base = "--num_hidden_layers 12 --num_attention_heads 12 --hidden_size 768 --seq_length 512".split()
    model = build(*base, vocab_size=50265)
    assert model.size == 124_697_433
    names = {spec.name for spec in model.parameters}
    assert {"roberta.embeddings.position_embeddings.weight", "lm_head.dense.weight", "lm_head.layer_norm.bias"} <= names
    said = {"model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    assert said.items() <= model.huggingface.items()
    assert model.huggingface["architectures"] == ["RobertaForMaskedLM"]
    # One kind of segment: it is added to all tokens, and no field says so.
    assert "segment_ids" not in {name for block in model.blocks for name in block.inputs}


def embedded(ids):
    """The embeddings' output for ``ids``, and the gradients of the word and position tables."""
    model = build(*SMALL.split(), "--tie_embeddings", "false")
    values = initial_values(model, 3)
    block = model.blocks[0]
    tensors = {spec.name: Tensor(values(spec).astype(REAL)) for spec in block.parameters}
    out = block.build(NumpyScope(tensors))(None, {"input_ids": Tensor(ids), DROPOUT_SEEDS: None})
    (out * out * Tensor(np.random.default_rng(1).standard_normal(out.shape))).sum().backward()
    return out.array, {name.split(".")[2]: tensor for name, tensor in tensors.items()}


def test_positions_are_counted_as_in_transformers():
    """``create_position_ids_from_input_ids``: cumsum of what is no padding, behind it the padding's own row."""
    ids = np.array([[0, 7, 7, 2, 1, 1], [1, 0, 1, 9, 2, 5]], np.int32)
    rows = np.array([[2, 3, 4, 5, 1, 1], [1, 2, 1, 3, 4, 5]])
    found, tables = embedded(ids)
    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    word, position, segment = (tables[name].array for name in names)
    expected = word[ids] + position[rows] + segment[0]
    expected -= expected.mean(-1, keepdims=True)
    expected /= np.sqrt((expected**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # As with padding_idx in torch: the row of the padding is not trained by being looked up.
    for name in names[:2]:
        gradient = abs(tables[name].grad).sum(axis=1)
        assert gradient[PADDING] == 0 and gradient[5] > 0


def test_two_rows_of_the_positions_are_for_no_token():
    with pytest.raises(UsageError) as error:
        build(*SMALL.split(), "--seq_length", "13")
    assert str(error.value) == (
        "--seq_length 13 is longer than --max_position_embeddings 14, of which the first 2 are for no token: "
        "raise the latter"
    )


@pytest.mark.parametrize("task", ["masked_lm", "question_answering"])
def test_its_folder_in_and_out(tmp_path, task):
    model = build(*SMALL.split(), task=task)
    values = initial_values(model, 3)
    tensors = {spec.name: values(spec) for spec in model.parameters}
    (tmp_path / "config.json").write_text(json.dumps(dict(model.huggingface)))
    save_file(tensors, str(tmp_path / "model.safetensors"))
    again = build("--seq_length", "12", "--init_from", str(tmp_path), task=task)
    assert again.weights.missing == [] and again.weights.unexpected == []
    assert again.huggingface == model.huggingface
    for spec in model.parameters:
        np.testing.assert_array_equal(again.weights.value(spec), tensors[spec.name], spec.name)


def test_the_further_names_of_the_decoder_are_known(tmp_path):
    """transformers ties lm_head.decoder to the word embedding and its bias to lm_head.bias; older files have all."""
    model = build(*SMALL.split())
    values = initial_values(model, 3)
    tensors = {spec.name: values(spec) for spec in model.parameters}
    word = tensors["roberta.embeddings.word_embeddings.weight"]
    repeated = {"lm_head.decoder.weight": word, "lm_head.decoder.bias": tensors["lm_head.bias"]}
    position_ids = {"roberta.embeddings.position_ids": np.arange(14)[None]}
    (tmp_path / "config.json").write_text(json.dumps(dict(model.huggingface)))
    save_file({**tensors, **repeated, **position_ids}, str(tmp_path / "model.safetensors"))
    again = build("--seq_length", "12", "--init_from", str(tmp_path))
    assert again.weights.missing == [] and again.weights.unexpected == [] and not again.weights.notes
    save_file(
        {**load_file(str(tmp_path / "model.safetensors")), "lm_head.decoder.weight": word + 1},
        str(tmp_path / "model.safetensors"),
    )
    untied = build("--seq_length", "12", "--init_from", str(tmp_path))
    assert untied.settings["tie_embeddings"] is False
    decoder = next(spec for spec in untied.parameters if spec.name == "lm_head.decoder.weight")
    np.testing.assert_array_equal(untied.weights.value(decoder), word + 1)


def test_a_folder_without_a_padding_token_is_one_line(tmp_path):
    model = build(*SMALL.split())
    (tmp_path / "config.json").write_text(json.dumps({**model.huggingface, "pad_token_id": None}))
    save_file({"lm_head.bias": np.zeros(40, np.float32)}, str(tmp_path / "model.safetensors"))
    with pytest.raises(UsageError, match="'pad_token_id' in config.json is null: positions are counted from it on"):
        build("--seq_length", "12", "--init_from", str(tmp_path))
