"""``export``: what a folder for transformers holds, that it is what was trained to the bit, and what is refused in one
line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import checkpoints
import numpy as np
import pytest
from byte_bpe import write_byte_bpe
from minilm import minilm
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from pipeloom.core.commands.cli import main
from pipeloom.plugins.commands.export import text_ends, tokenizer_files
from pipeloom.plugins.libraries.huggingface.shards import parse_size, split_into_shards
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
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


def bits(path, name):
    """A tensor's type, and its numbers as they stand in the file."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + size])[name]
    start, end = (8 + size + offset for offset in entry["data_offsets"])
    return entry["dtype"], np.frombuffer(content[start:end], np.uint16)


#: Numbers, and what torch 2 makes of them as bfloat16: ties go to the even one, small ones stay.
NUMBERS = [1.0, 1.00390625, 1.01171875, -3.1415926, 65504.0, 3.39e38, np.nan, np.inf, 1e-40]
BFLOAT16 = [16256, 16256, 16258, 49225, 18304, 32639, 0x7FC0, 32640, 1]


def numbers(folder, values):
    tensors = load_file(str(folder / "model.safetensors"))
    save_file({**tensors, "qa_outputs.scale": np.float32(values)}, str(folder / "model.safetensors"))


def test_weights_are_exported_in_half_precision(folder, tmp_path, capsys):
    numbers(folder, NUMBERS)
    assert export(folder, tmp_path / "b", "--dtype", "bfloat16") == 0
    kind, found = bits(tmp_path / "b" / "model.safetensors", "qa_outputs.scale")
    assert kind == "BF16" and found.tolist() == BFLOAT16
    assert json.loads((tmp_path / "b" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert export(tmp_path / "b", tmp_path / "again", "--dtype", "bfloat16") == 0  # which reads what was written
    assert bits(tmp_path / "again" / "model.safetensors", "qa_outputs.scale")[1].tolist() == BFLOAT16
    capsys.readouterr()
    assert export(folder, tmp_path / "h", "--dtype", "float16") == 2
    says = "'qa_outputs.scale' has numbers up to 3.39e+38, which F16 cannot hold: give another --dtype"
    assert says in capsys.readouterr().err
    assert not (tmp_path / "h").exists()
    numbers(folder, NUMBERS[:5])
    assert export(folder, tmp_path / "h", "--dtype", "float16") == 0
    kind, found = bits(tmp_path / "h" / "model.safetensors", "qa_outputs.scale")
    assert kind == "F16" and (found.view(np.float16) == np.float32(NUMBERS[:5]).astype(np.float16)).all()


def test_weights_are_exported_in_several_files(folder, tmp_path, capsys):
    assert export(folder, tmp_path / "one") == 0
    assert export(folder, tmp_path / "many", "--max_shard_size", "64") == 0
    files = sorted(path.name for path in (tmp_path / "many").glob("model*"))
    assert files == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": 72},
        "weight_map": {"qa_outputs.bias": files[0], "qa_outputs.weight": files[1]},
    }
    assert export(tmp_path / "many", tmp_path / "again") == 0
    whole = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == whole
    assert (
        export(folder, tmp_path / "many", "--overwrite", "true") == 0 and len(list((tmp_path / "many").iterdir())) == 7
    )
    capsys.readouterr()
    assert export(folder, tmp_path / "none", "--max_shard_size", "5 gigs") == 2
    assert "--max_shard_size 5 gigs: give a size, for instance 5GB or 500MB" in capsys.readouterr().err


def test_files_are_filled_as_huggingface_hub_fills_them():
    sizes = {f"t{number}": 4 * size for number, size in enumerate([10, 20, 5, 50, 3, 3, 30])}
    # huggingface_hub.split_torch_state_dict_into_shards(..., max_shard_size=140)
    assert split_into_shards(sizes, 140) == [["t3"], ["t0", "t1", "t2"], ["t4", "t5"], ["t6"]]
    assert [parse_size(text) for text in ("7", "5GB", "1.5 mb", "2GiB")] == [7, 5 * 10**9, 1500000, 2 * 2**30]


def test_a_byte_level_bpe_gets_the_class_of_the_model_and_where_texts_end(tmp_path):
    vocabulary = Vocabulary(write_byte_bpe(tmp_path / "vocab"))
    config = {"model_type": "gpt2", "vocab_size": 300, "n_positions": 64, "eos_token_id": None, "bos_token_id": 7}
    folder = SimpleNamespace(config=config, setting=lambda name, kind: config[name])
    files = tokenizer_files(vocabulary, folder)
    settings = json.loads(files["tokenizer_config.json"])
    assert (settings["tokenizer_class"], settings["model_max_length"]) == ("GPT2Tokenizer", 64)
    assert settings["eos_token"] == "<|endoftext|>" and "do_lower_case" not in settings
    assert {"vocab.json", "merges.txt", "tokenizer.json"} <= set(files)
    assert text_ends(vocabulary, folder) == {"eos_token_id": 5}
    config["model_type"] = "roberta"
    assert json.loads(tokenizer_files(vocabulary, folder)["tokenizer_config.json"])["tokenizer_class"] == (
        "RobertaTokenizer"
    )
