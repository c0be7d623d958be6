"""``examples/my_model.py``: its own head and the one for any model, and its folder in and out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.commands.cli import parse
from pipeloom.core.host.task_choice import find_task

pytestmark = pytest.mark.fast

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "my_model.py"


def build(task, *flags):
    config, plugins = parse(["--plugins", f"inter_first,wiki_ofrecord,{EXAMPLE}", "--seq_length", "16", *flags])
    config = config.replace(vocab_size=50)
    return plugins.hook.pipeloom_build_model(config=config, task=find_task(plugins, config, task))


def test_it_has_a_head_of_its_own_and_takes_the_one_for_any_model():
    own, any_model = build("pretraining"), build("question_answering")
    assert [block.name for block in own.blocks] == ["embeddings", "layers.0", "layers.1", "masked_words"]
    assert own.losses == {"word_loss": 1.0} and own.huggingface["architectures"] == ["GatedForMaskedWords"]
    assert own.pipeline_tag == "fill-mask" and any_model.pipeline_tag == "question-answering"
    assert any_model.blocks[-1].name == "answer_head"
    assert any_model.huggingface["architectures"] == ["GatedForQuestionAnswering"]


def test_its_folder_in_and_out(tmp_path):
    model = build("pretraining")
    values = initial_values(model, 3)
    specs = {spec.name: spec for spec in model.parameters}
    shapes = {name: spec.shape for name, spec in specs.items()}
    recipes = model.adapter.to_huggingface(shapes)
    tensors = {name: recipe.make(lambda part: values(specs[part.name])) for name, recipe in recipes.items()}
    assert tensors["gated.layers.1.both.weight"].shape == (32, 64)
    (tmp_path / "config.json").write_text(json.dumps(dict(model.huggingface)))
    save_file(tensors, str(tmp_path / "model.safetensors"))
    again = build("pretraining", "--init_from", str(tmp_path))
    assert again.weights.missing == [] and again.weights.unexpected == []
    for name, spec in specs.items():
        np.testing.assert_array_equal(again.weights.value(spec), values(spec), name)
