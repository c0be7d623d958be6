"""How weights stand in HuggingFace folders: GPT-2's fused, transposed matrices, split ones, and checkpoints of such
models.

``tests/fixtures/gpt2_layout.json`` is what transformers computed with a small GPT-2.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec
from pipeloom.core.contract.layers import dense
from pipeloom.core.contract.weight_adapter import TensorRule, WeightAdapter, adapter_from
from pipeloom.plugins.libraries.huggingface.folder import Folder
from pipeloom.plugins.libraries.huggingface.source import open_pretrained
from pipeloom.plugins.libraries.huggingface.weights import Weights

pytestmark = pytest.mark.fast

GPT2 = json.loads((Path(__file__).parents[2] / "fixtures" / "gpt2_layout.json").read_text())
HIDDEN, INNER = 4, 8
LAYER = "transformer.h.0"
PARTS = tuple(f"{LAYER}.attn.{part}" for part in ("query", "key", "value"))
RULES = (
    TensorRule(tuple(f"{part}.weight" for part in PARTS), (f"{LAYER}.attn.c_attn.weight",), axis=1, transposed=True),
    TensorRule(tuple(f"{part}.bias" for part in PARTS), (f"{LAYER}.attn.c_attn.bias",)),
    TensorRule((f"{LAYER}.mlp.c_fc.weight",), (f"{LAYER}.mlp.c_fc.weight",), transposed=True),
)
ADAPTER = WeightAdapter(RULES, prefix="transformer.")


def model(adapter=ADAPTER):
    """The attention's projections and the first layer of the MLP of a GPT-2 layer, each ``(out, in)`` as here."""
    parameters = [spec for part in PARTS for spec in dense(part, HIDDEN, HIDDEN)] + [
        *dense(f"{LAYER}.mlp.c_fc", INNER, HIDDEN)
    ]
    block = Block("layer", tuple(parameters), Cost(1.0, 1.0, 1.0), (), print)
    return ModelSpec("gpt2", "text", (block,), {"loss": 1.0}, adapter=adapter)


def write(folder, tensors, **settings):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **settings}))
    save_file(tensors, str(folder / "model.safetensors"))
    return Folder(str(folder))


def stored():
    return {name: np.float32(value) for name, value in GPT2["tensors"].items()}


def values_of(folder):
    """Each parameter of the model that starts from ``folder``."""
    weights = Weights(folder, model())
    assert weights.missing == [] and weights.unexpected == []
    return {spec.name: weights.value(spec) for spec in model().parameters}


def shapes():
    return {spec.name: spec.shape for spec in model().parameters}


def back(values):
    """The tensors of a folder, of parameters."""
    recipes = ADAPTER.to_huggingface(shapes())
    made = {name: recipe.make(lambda part: values[part.name][part.index or ()]) for name, recipe in recipes.items()}
    assert all(made[name].shape == recipe.shape for name, recipe in recipes.items())
    return made


def same(found, expected):
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value.dtype == np.float32 and value.flags.c_contiguous
        np.testing.assert_array_equal(value, expected[name], name)


@pytest.mark.parametrize("prefix", [True, False])
def test_gpt2_in_and_out(tmp_path, prefix):
    """What transformers' layer computes, our three matrices compute; and the way back gives every bit."""
    tensors = stored() if prefix else {name.replace("transformer.", ""): value for name, value in stored().items()}
    values, hidden = values_of(write(tmp_path / "gpt2", tensors)), np.float32(GPT2["hidden"])
    for name, layer in zip(("query", "key", "value", "mlp"), (*PARTS, f"{LAYER}.mlp.c_fc")):
        weight, bias = values[f"{layer}.weight"], values[f"{layer}.bias"]
        np.testing.assert_allclose(hidden @ weight.T + bias, np.float32(GPT2[name]), rtol=2e-6, atol=2e-6)
    same(back(values), stored())
    assert all(list(value.shape) == GPT2["shapes"][name] for name, value in back(values).items())


def test_of_a_fused_tensor_the_part_that_is_wanted_is_read(tmp_path, monkeypatch):
    weights, read = Weights(write(tmp_path / "gpt2", stored()), model()), []
    real = Folder.read

    def reading(self, name, index=None):
        read.append((name, real(self, name, index).shape))
        return real(self, name, index)

    monkeypatch.setattr(Folder, "read", reading)
    weights.value(next(spec for spec in model().parameters if spec.name == f"{PARTS[1]}.weight"))
    assert read == [(f"{LAYER}.attn.c_attn.weight", (HIDDEN, HIDDEN))]


def test_half_precision_is_read_in_part(tmp_path):
    values = {name: value.astype(np.float16) for name, value in stored().items()}
    same(back(values_of(write(tmp_path / "gpt2", values))), {name: np.float32(value) for name, value in values.items()})


def test_one_parameter_of_several_tensors():
    """The other way round: a fused parameter here, three tensors there, of sizes that differ."""
    adapter = WeightAdapter((TensorRule(("qkv",), ("q", "k", "v"), sizes=(6, 2, 2)),))
    value = np.arange(40, dtype=np.float32).reshape(10, 4)
    recipes = adapter.to_huggingface({"qkv": (10, 4)})
    made = {name: recipe.make(lambda part: value[part.index or ()]) for name, recipe in recipes.items()}
    assert {name: array.shape for name, array in made.items()} == {"q": (6, 4), "k": (2, 4), "v": (2, 4)}
    recipe = adapter.from_huggingface("qkv", {"qkv": (10, 4)}, made)
    np.testing.assert_array_equal(recipe.make(lambda part: made[part.name]), value)
    assert adapter.from_huggingface("qkv", {"qkv": (10, 4)}, {"q": made["q"], "k": made["k"]}) is None
    turned = WeightAdapter((TensorRule(("qkv",), ("q", "k"), axis=1, transposed=True),))
    recipes = turned.to_huggingface({"qkv": (10, 4)})
    made = {name: recipe.make(lambda part: value[part.index or ()]) for name, recipe in recipes.items()}
    assert made["k"].shape == (4, 5)
    recipe = turned.from_huggingface("qkv", {"qkv": (10, 4)}, made)
    np.testing.assert_array_equal(recipe.make(lambda part: made[part.name]), value)


def test_a_fused_tensor_of_another_shape_is_one_line(tmp_path):
    tensors = {**stored(), f"{LAYER}.attn.c_attn.weight": np.zeros((3 * HIDDEN, HIDDEN), np.float32)}
    with pytest.raises(UsageError, match=r"c_attn.weight' has the shape \[12, 4\], the model needs \[4, 12\]"):
        Weights(write(tmp_path / "gpt2", tensors), model())


def test_the_rules_are_told_to_the_manifest_and_back():
    described = json.loads(json.dumps(ADAPTER.describe()))
    assert adapter_from(described).rules == RULES and adapter_from(()).rules == ()
    for wrong in ([{}], 7, [{**described[0], "parameters": 3}], [{**described[0], "tensors": ["a", "b"]}]):
        with pytest.raises(ValueError):
            adapter_from(wrong)


def test_a_checkpoint_of_such_a_model_is_a_folder_of_its_kind(tmp_path, monkeypatch):
    """Opened, it has the tensors of HuggingFace; a model that starts from it has the checkpoint's parameters."""
    bare = checkpoints.manifest
    described = {"huggingface": {"model_type": "gpt2"}, "adapter": json.loads(json.dumps(ADAPTER.describe()))}
    monkeypatch.setattr(checkpoints, "SHAPES", shapes())
    monkeypatch.setattr(
        checkpoints, "manifest", lambda step: replace(bare(step), model={**bare(step).model, **described})
    )
    checkpoints.save_alone(tmp_path / "run", 7)
    folder = open_pretrained(str(tmp_path / "run"))
    assert {name: list(shape) for name, (shape, _) in folder.tensors.items()} == {
        name: GPT2["shapes"][name] for name in GPT2["tensors"]
    }
    same(values_of(folder), {name: checkpoints.value(name, "", 7) for name in shapes()})
    tensors = {name: folder.read(name) for name in folder.tensors}
    same(values_of(write(tmp_path / "exported", tensors)), values_of(folder))
    assert load_file(str(tmp_path / "exported" / "model.safetensors")).keys() == GPT2["tensors"].keys()
