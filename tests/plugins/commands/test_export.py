"""``export``: what a folder for transformers holds, that it is what was trained to the bit, and what is refused in one
line.
"""

from __future__ import annotations

import json
from dataclasses import replace

import checkpoints
import numpy as np
import pytest
from minilm import minilm
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from pipeloom.core.commands.cli import main
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForQuestionAnswering"],
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "vocab_size": 9,
    "layer_norm_eps": 1e-5,
}
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
    save_file(
        {
            "qa_outputs.weight": rng.standard_normal((2, 8)).astype(np.float32),
            "bert.embeddings.position_ids": np.arange(16),
            "qa_outputs.bias": rng.standard_normal(2).astype(np.float16),
        },
        str(folder / "model.safetensors"),
    )
    return folder


def export(folder, out, *more):
    return main(["export", "--checkpoint", str(folder), "--output", str(out), *more])


def test_a_folder_is_exported_to_the_bit(folder, tmp_path):
    out = tmp_path / "out"
    assert export(folder, out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
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
    theirs, ours = (
        Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")),
        WordPieceTokenizer.load(folder / "vocab.txt"),
    )
    assert theirs.encode("Paris isn big").ids == [2, *ours.encode("Paris isn big"), 3] == [2, 5, 6, 7, 8, 3]
    pair = theirs.encode("Paris", "is [MASK]")
    assert pair.ids == [2, 5, 3, 6, 4, 3] and pair.type_ids == [0, 0, 0, 1, 1, 1]
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert (
        settings["do_lower_case"] is True and settings["model_max_length"] == 16 and settings["mask_token"] == "[MASK]"
    )


@pytest.mark.parametrize(
    "settings, added",
    [
        ({"strip_accents": False, "do_lower_case": False, "model_max_length": 7}, {}),
        ({"tokenize_chinese_chars": False}, {"isn": 9}),
        ({"cls_token": "big", "tokenizer_class": "BertTokenizerFast"}, {}),
    ],
)
def test_a_tokenizer_is_exported_whole(folder, tmp_path, settings, added):
    """Settings as they were, and the same tokens again, by what was there and by the tokenizer.json that is made
    besides."""
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 10, "dtype": "bfloat16"}))
    if added:
        (folder / "added_tokens.json").write_text(json.dumps(added))
    assert export(folder, tmp_path / "out") == 0
    exported = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings.items() <= exported.items()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    ours, again = (WordPieceTokenizer.load(path, special_in_text=True) for path in (folder, tmp_path / "out"))
    theirs = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for text in ("Paris Pa\u0301ris isn isnbig", "[MASK] big \u5317\u4eac is"):
        ids = ours.encode(text)
        assert again.encode(text) == ids and theirs.encode(text).ids == [ours.cls_id, *ids, ours.sep_id]
    assert again.tokens == ours.tokens and export(tmp_path / "out", tmp_path / "again") == 0
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_folder_of_transformers_5_is_exported_with_its_own_file(folder, tmp_path):
    """It has no vocab.txt."""
    assert export(folder, tmp_path / "first") == 0
    for name in ("vocab.txt", "special_tokens_map.json"):
        (tmp_path / "first" / name).unlink()
    assert export(tmp_path / "first", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "first" / "tokenizer.json").read_bytes()


def test_weights_that_cannot_be_read_are_not_left_out_in_silence(folder, tmp_path, capsys):
    tensors = load_file(str(folder / "model.safetensors"))
    save_file({**tensors, "qa_outputs.scale": np.ones(2, np.int8)}, str(folder / "model.safetensors"))
    assert export(folder, tmp_path / "out") == 2
    assert "'qa_outputs.scale' is of type I8, which cannot be read here: save it as float32" in capsys.readouterr().err


def test_the_card_says_what_the_model_is(folder, tmp_path):
    assert export(folder, tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "pipeline_tag: question-answering" in card
        and "BertForQuestionAnswering, 0.0 M parameters: 1 layers, hidden 8, 2 heads" in card
    )
    assert 'BertForQuestionAnswering.from_pretrained("out")' in card and str(tmp_path) not in card


def test_a_checkpoint_is_exported_with_its_history(tmp_path, monkeypatch):
    bare = checkpoints.manifest
    sizes = {**CONFIG, "vocab_size": 7, "architectures": ["BertForPreTraining"], "tie_word_embeddings": False}
    described = {"huggingface": sizes, "repeated": {"bias.again": "bert.bias"}}
    monkeypatch.setattr(
        checkpoints,
        "manifest",
        lambda step: replace(bare(step, {"f1": 81.25}), model={**bare(step).model, **described}),
    )
    checkpoints.save_alone(tmp_path / "run", 7)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS[:7]) + "\n")
    assert export(tmp_path / "run", tmp_path / "out", "--vocab", str(tmp_path / "vocab.txt")) == 0
    exported = load_file(str(tmp_path / "out" / "model.safetensors"))
    # Untied, so that transformers would begin with another bias where it is not said twice.
    assert (
        set(exported) == {*checkpoints.SHAPES, "bias.again"}
        and (exported.pop("bias.again") == exported["bert.bias"]).all()
    )
    assert all(
        (tensor == checkpoints.value(name, "", 7)).all() for name, tensor in exported.items()
    )  # and nothing of the optimizer
    card = (tmp_path / "out" / "README.md").read_text()
    for line in (
        "pipeline_tag: fill-mask",
        "112 samples were seen in 7 steps",
        "Task `t`, plugins a 1.",
        "| train_steps | 100 |",
        "| seed | 1 |",
        "| loss | 1.5000 |",
        "| eval f1 | 81.2500 |",
    ):
        assert line in card


def test_minilm_keeps_every_bit(tmp_path):
    assert export(minilm(), tmp_path / "out") == 0
    before, after = (
        load_file(str(minilm() / "model.safetensors")),
        load_file(str(tmp_path / "out" / "model.safetensors")),
    )
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
    assert "trained with lowercase true: leave --lowercase out" in refused(
        folder, tmp_path / "b", "--lowercase", "false"
    )
    (folder / "vocab.txt").write_text("\n".join([*WORDS, "more"]) + "\n")
    assert "has 10 tokens, the model has 9" in refused(folder, tmp_path / "b")
    (folder / "vocab.txt").unlink()
    assert "says nothing of its vocabulary: give it with --vocab" in refused(folder, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis", "trained"]
