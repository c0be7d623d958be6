"""``export``: what a folder for transformers holds, that it is what was trained to the bit, and what is refused in one line."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

import checkpoints
from minilm import minilm
from pipeloom.core.cli import main
from pipeloom.core.data.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast

CONFIG = {"model_type": "bert", "architectures": ["BertForQuestionAnswering"], "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8,
          "intermediate_size": 12, "max_position_embeddings": 16, "vocab_size": 9, "layer_norm_eps": 1e-5}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "is", "##n", "big"]


@pytest.fixture
def folder(tmp_path):
    """A HuggingFace folder; one of its tensors is no parameter."""
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    rng = np.random.default_rng(0)
    save_file({"qa_outputs.weight": rng.standard_normal((2, 8)).astype(np.float32), "bert.embeddings.position_ids": np.arange(16),
               "qa_outputs.bias": rng.standard_normal(2).astype(np.float16)}, str(folder / "model.safetensors"))
    return folder


def export(folder, out, *more):
    return main(["export", "--checkpoint", str(folder), "--output", str(out), *more])


def test_a_folder_is_exported_to_the_bit(folder, tmp_path):
    out = tmp_path / "out"
    assert export(folder, out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors", "special_tokens_map.json",
                                                           "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    before, after = load_file(str(folder / "model.safetensors")), load_file(str(out / "model.safetensors"))
    assert set(after) == {"qa_outputs.weight", "qa_outputs.bias"}
    assert all((after[name] == before[name].astype(np.float32)).all() for name in after)
    with safe_open(str(out / "model.safetensors"), "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((out / "config.json").read_text()) == {**CONFIG, "torch_dtype": "float32"}
    again = tmp_path / "again"
    assert export(out, again) == 0
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_tokenizer_is_the_one_that_was_trained_with(folder, tmp_path):
    assert export(folder, tmp_path / "out") == 0
    theirs, ours = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")), WordPieceTokenizer.load(folder / "vocab.txt")
    assert theirs.encode("Paris isn big").ids == [2, *ours.encode("Paris isn big"), 3] == [2, 5, 6, 7, 8, 3]
    pair = theirs.encode("Paris", "is [MASK]")
    assert pair.ids == [2, 5, 3, 6, 4, 3] and pair.type_ids == [0, 0, 0, 1, 1, 1]
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["do_lower_case"] is True and settings["model_max_length"] == 16 and settings["mask_token"] == "[MASK]"


def test_the_card_says_what_the_model_is(folder, tmp_path):
    assert export(folder, tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: question-answering" in card and "BertForQuestionAnswering, 0.0 M parameters: 1 layers, hidden 8, 2 heads" in card
    assert 'BertForQuestionAnswering.from_pretrained("out")' in card and str(tmp_path) not in card


def test_a_checkpoint_is_exported_with_its_history(tmp_path, monkeypatch):
    bare = checkpoints.manifest
    sizes = {**CONFIG, "vocab_size": 7, "architectures": ["BertForPreTraining"]}
    monkeypatch.setattr(checkpoints, "manifest", lambda step: replace(bare(step, {"f1": 81.25}), model={**bare(step).model, "huggingface": sizes}))
    checkpoints.save_alone(tmp_path / "run", 7)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS[:7]) + "\n")
    assert export(tmp_path / "run", tmp_path / "out", "--vocab", str(tmp_path / "vocab.txt")) == 0
    exported = load_file(str(tmp_path / "out" / "model.safetensors"))
    assert set(exported) == set(checkpoints.SHAPES)
    assert all((tensor == checkpoints.value(name, "", 7)).all() for name, tensor in exported.items())   # and nothing of the optimizer
    card = (tmp_path / "out" / "README.md").read_text()
    for line in ("pipeline_tag: fill-mask", "112 samples were seen in 7 steps", "Task `t`, plugins a 1.", "| train_steps | 100 |", "| seed | 1 |",
                 "| loss | 1.5000 |", "| eval f1 | 81.2500 |"):
        assert line in card


def test_minilm_keeps_every_bit(tmp_path):
    assert export(minilm(), tmp_path / "out") == 0
    before, after = load_file(str(minilm() / "model.safetensors")), load_file(str(tmp_path / "out" / "model.safetensors"))
    assert len(after) == 103 and all((after[name] == before[name]).all() for name in after)


def test_what_cannot_be_is_one_line_and_leaves_nothing(folder, tmp_path, capsys):
    def refused(*arguments):
        assert export(*arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "there is no such folder" in refused(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.doc").write_text("")
    assert "is there and is no model" in refused(folder, tmp_path / "thesis", "--overwrite", "true")
    assert export(folder, tmp_path / "out") == 0
    capsys.readouterr()
    assert "is there; give another folder, or --overwrite true" in refused(folder, tmp_path / "out")
    assert export(folder, tmp_path / "out", "--overwrite", "true") == 0
    capsys.readouterr()
    assert "trained with lowercase true: leave --lowercase out" in refused(folder, tmp_path / "b", "--lowercase", "false")
    (folder / "vocab.txt").write_text("\n".join([*WORDS, "more"]) + "\n")
    assert "has 10 tokens, the model has 9" in refused(folder, tmp_path / "b")
    (folder / "vocab.txt").unlink()
    assert "says nothing of its vocabulary: give it with --vocab" in refused(folder, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis", "trained"]
