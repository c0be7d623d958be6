"""``--init_from``: which names of a folder are understood, and what each fault of one says, in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from found_tasks import PRETRAINING, QUESTION_ANSWERING
from safetensors.numpy import load_file, save_file

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.initialization import initial_value, initial_values, starting_point
from pipeloom.core.commands.cli import parse
from pipeloom.plugins.libraries.huggingface.folder import Folder
from pipeloom.plugins.models.bert import WORD, pipeloom_build_model

pytestmark = pytest.mark.fast

SETTINGS = {
    "model_type": "bert",
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "vocab_size": 40,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "type_vocab_size": 2,
}
DECODER = "cls.predictions.decoder.weight"


def build(folder, *flags, vocab_size=30):
    """The model of ``--init_from folder`` for a dataset with ids below ``vocab_size``."""
    config = configured("--init_from", str(folder), "--seq_length", "16", *flags).replace(vocab_size=vocab_size)
    return pipeloom_build_model(config=config, task=PRETRAINING)


def configured(*flags):
    return parse(["--plugins", "inter_first,bert,wiki_ofrecord", *flags])[0]


def write(folder, tensors, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**SETTINGS, **settings}))
    save_file(tensors, str(folder / "model.safetensors"))
    return folder


@pytest.fixture(scope="module")
def tensors():
    """What a BertForPreTraining of these sizes saves."""
    flags = [
        part
        for name, value in SETTINGS.items()
        if isinstance(value, int) and name != "type_vocab_size"
        for part in (f"--{name}", str(value))
    ]
    model = pipeloom_build_model(config=configured("--seq_length", "16", *flags), task=PRETRAINING)
    generator = np.random.default_rng(1)
    return {spec.name: generator.standard_normal(spec.shape, np.float32) for spec in model.parameters}


def check(model, tensors, missing=(), lines=1):
    """Every parameter but ``missing`` starts from its tensor, those from the seed; and the log says so in that many
    lines, and more."""
    value_of = initial_values(model, 5)
    for spec in model.parameters:
        expected = initial_value(spec, 5) if spec.name in missing else tensors[spec.name]
        value = value_of(spec)
        assert value.dtype == np.float32 and value.flags.writeable
        np.testing.assert_array_equal(value, expected, spec.name)
    assert model.weights.missing == list(missing)
    assert len(starting_point(model)) == lines + bool(missing) + bool(model.weights.unexpected)


def renamed(tensors, *pairs):
    result = dict(tensors)
    for old, new in pairs:
        result = {name.replace(old, new): value for name, value in result.items()}
    return result


def test_the_folder_gives_sizes_epsilon_and_values(tensors, tmp_path):
    model = build(write(tmp_path / "bert", tensors))
    check(model, tensors)
    assert model.weights.unexpected == [] and starting_point(model)[0].endswith(
        f"30 of 30 parameters start from {tmp_path}/bert"
    )
    assert model.sizes["norm_eps"] == 1e-5 and model.sizes["vocab"] == 40
    assert [model.sizes[name] for name in ("layers", "heads", "hidden", "intermediate", "positions")] == [
        1,
        2,
        8,
        12,
        16,
    ]


def test_without_init_from_all_comes_from_the_seed():
    model = pipeloom_build_model(config=configured().replace(vocab_size=30), task=PRETRAINING)
    spec = model.parameters[0]
    np.testing.assert_array_equal(initial_values(model, 5)(spec), initial_value(spec, 5))
    assert starting_point(model) == [] and model.sizes["norm_eps"] == 1e-12


@pytest.mark.parametrize(
    "change",
    [
        lambda t: renamed(t, ("bert.", "")),
        lambda t: renamed(t, ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")),
        lambda t: renamed(
            t, ("bert.", ""), ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")
        ),
        lambda t: renamed(t, ("cls.predictions.bias", "cls.predictions.decoder.bias")),
        lambda t: {**t, DECODER: t[WORD].copy(), "cls.predictions.decoder.bias": t["cls.predictions.bias"].copy()},
        lambda t: {**t, "bert.embeddings.position_ids": np.arange(16)[None]},
        lambda t: {**renamed(t, ("bert.", "")), "embeddings.position_ids": np.arange(16)[None]},
        lambda t: {name: value.astype(np.float64) for name, value in t.items()},
        lambda t: {f"module.{name}": value for name, value in t.items()},
        lambda t: {f"model.{name}": value for name, value in t.items()},
        lambda t: {
            f"module._orig_mod.{name}": value
            for name, value in renamed(t, ("LayerNorm.weight", "LayerNorm.gamma")).items()
        },
        lambda t: {**{name: value for name, value in t.items() if name != WORD}, DECODER: t[WORD].copy()},
    ],
    ids=[
        "no prefix",
        "gamma and beta",
        "both",
        "decoder.bias",
        "decoder twice",
        "buffer",
        "buffer without prefix",
        "float64",
        "module",
        "model",
        "module twice",
        "decoder alone",
    ],
)
def test_names_that_folders_have_had(tensors, tmp_path, change):
    model = build(write(tmp_path / "bert", change(tensors)))
    check(model, tensors)
    assert model.weights.unexpected == []


def test_half_precision_is_widened(tensors, tmp_path):
    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    check(build(write(tmp_path / "bert", half)), {name: value.astype(np.float32) for name, value in half.items()})


def test_brain_floats_are_the_upper_halves_of_floats(tensors, tmp_path):
    folder = write(tmp_path / "bert", tensors)
    retype(folder, dtype="BF16", shape=[80, 8])  # twice as many values in as many bytes
    value = Folder(str(folder)).read(WORD)
    halves = tensors[WORD].view(np.uint16).reshape(80, 8)
    assert value.dtype == np.float32 and (value.view(np.uint32) == halves.astype(np.uint32) << 16).all()


def test_tensors_in_several_files(tensors, tmp_path):
    folder = write(tmp_path / "bert", tensors)
    index(folder)
    check(build(folder), tensors)


def test_a_byte_order_mark_is_no_content(tensors, tmp_path):
    folder = write(tmp_path / "bert", tensors)
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())
    check(build(folder), tensors)


@pytest.mark.parametrize("name, other", [(DECODER, WORD), ("cls.predictions.decoder.bias", "cls.predictions.bias")])
def test_what_should_be_tied_and_differs_is_used_and_said(tensors, tmp_path, name, other):
    """As in transformers, which computes with the decoder's own where both are there."""
    own = {**tensors, name: tensors[other] + 1}
    folder = write(tmp_path / "bert", own)
    model = build(folder)
    values = {spec.name: initial_values(model, 5)(spec) for spec in model.parameters}
    np.testing.assert_array_equal(values[name if name == DECODER else other], own[name])
    np.testing.assert_array_equal(values[WORD], own[WORD])
    assert model.weights.unexpected == [] and model.huggingface["tie_word_embeddings"] is (name != DECODER)
    (note,) = starting_point(model)[1:]
    assert note.startswith(f"note       {name} differs from {other}, though it")
    assert note.endswith("taken, as in transformers")
    if name == DECODER:
        assert model.settings["tie_embeddings"] is False
        with pytest.raises(
            UsageError, match="--tie_embeddings True disagrees with --init_from .*/bert, where it is False"
        ):
            build(folder, "--tie_embeddings", "true")


def test_untied_by_its_config_and_without_a_decoder_is_said(tensors, tmp_path):
    model = build(write(tmp_path / "bert", tensors, tie_word_embeddings=False))
    check(model, {**tensors, DECODER: tensors[WORD]}, lines=2)
    assert starting_point(model)[1] == f"note       {DECODER} is not there: it starts from {WORD}"
    assert model.adapter.repeated == {"cls.predictions.decoder.bias": "cls.predictions.bias"}


def test_other_sizes_that_a_folder_decides(tensors, tmp_path):
    segments = "bert.embeddings.token_type_embeddings.weight"
    own = {**tensors, segments: np.ones((3, 8), np.float32)}
    decided = {"type_vocab_size": 3, "hidden_act": "gelu_new", "pad_token_id": 4}
    model = build(write(tmp_path / "bert", own, hidden_dropout_prob=0.2, **decided))
    check(model, own, lines=2)
    assert decided.items() <= model.huggingface.items()
    note = "note       config.json has hidden_dropout_prob 0.2, this run 0.1 (--hidden_dropout_prob)"
    assert starting_point(model)[1] == note


def test_missing_and_unexpected_are_one_line_each(tensors, tmp_path):
    body = {name: value for name, value in tensors.items() if name.startswith("bert.") and "pooler" not in name}
    extra = {
        "classifier.weight": np.ones((2, 8), np.float32),
        "bert.encoder.layer.7.output.dense.bias": np.ones(8, np.float32),
    }
    model = build(write(tmp_path / "bert", {**body, **extra}))
    missing = [name for name in tensors if name not in body]
    check(model, tensors, missing)
    _, first, second = starting_point(model)
    assert first == f"missing    {len(missing)}, with their usual initial values: {', '.join(missing)}"
    assert second == "unexpected 2, ignored: bert.encoder.layer.7.output.dense.bias, classifier.weight"


def test_a_tensor_is_read_when_it_is_asked_for_and_not_before(tensors, tmp_path, monkeypatch):
    read = []
    real = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name, index=None: read.append(name) or real(self, name, index))
    model = build(write(tmp_path / "bert", renamed(tensors, ("bert.", ""))))
    assert read == []
    initial_values(model, 5)(next(spec for spec in model.parameters if spec.name == WORD))
    assert read == [WORD[len("bert.") :]]


def test_tied_and_untied(tensors, tmp_path):
    own = {**tensors, DECODER: tensors[WORD] + 1}
    untied = write(tmp_path / "untied", own, tie_word_embeddings=False)
    check(build(untied), own)
    assert DECODER in build(untied).weights.found
    with pytest.raises(
        UsageError, match="--tie_embeddings True disagrees with --init_from .*/untied, where it is False"
    ):
        build(untied, "--tie_embeddings", "true")
    # One table, used twice, can be told apart from here on.
    tied = write(tmp_path / "tied", tensors)
    check(build(tied, "--tie_embeddings", "false"), {**tensors, DECODER: tensors[WORD]})


@pytest.mark.parametrize(
    "name",
    [
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "vocab_size",
    ],
)
def test_a_size_may_be_said_again_and_not_be_another(tensors, tmp_path, name):
    folder = write(tmp_path / "bert", tensors)
    same, other = SETTINGS[name], SETTINGS[name] + 8
    assert build(folder, f"--{name}", str(same), vocab_size=same if name == "vocab_size" else 30).sizes["vocab"] == 40
    with pytest.raises(UsageError, match=f"^--{name} {other} disagrees with --init_from {folder}, where it is {same}"):
        build(folder, f"--{name}", str(other), vocab_size=other if name == "vocab_size" else 30)


def test_the_configuration_of_a_run_can_be_given_again(tensors, tmp_path):
    config = configured("--init_from", str(write(tmp_path / "bert", tensors)), "--seq_length", "16").replace(
        vocab_size=30
    )
    model = pipeloom_build_model(config=config, task=PRETRAINING)
    settled = config.replace(**model.settings)  # as the plan has it
    assert (
        config.declared["vocab_size"].resume == "free"
    )  # else a resumed run would take its data for that of another size
    assert (settled.num_hidden_layers, settled.hidden_size, settled.vocab_size) == (1, 8, 40)
    (tmp_path / "config.yaml").write_text(settled.to_yaml())
    again = parse(["--config", str(tmp_path / "config.yaml")])[0]
    assert pipeloom_build_model(config=again, task=PRETRAINING).sizes == model.sizes


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"model_type": "roberta"}, "'model_type' in config.json is 'roberta'; this model can do 'bert' alone"),
        ({"hidden_act": "mish"}, "'hidden_act' in config.json is 'mish'; this model can do 'gelu', .*'relu', .* alone"),
        (
            {"position_embedding_type": "relative_key"},
            "'position_embedding_type' in config.json is 'relative_key'; this model can do 'absolute' alone",
        ),
        ({"type_vocab_size": 0}, "'type_vocab_size' in config.json must be a whole number from 1 on, not 0"),
        ({"pad_token_id": 40}, "'pad_token_id' in config.json must be the id of a token, not 40"),
        ({"is_decoder": True}, "'is_decoder' in config.json is True; this model can do False alone"),
        ({"pruned_heads": {"0": [1]}}, "'pruned_heads' in config.json is {'0': "),
        ({"quantization_config": {"bits": 8}}, "'quantization_config' in config.json is {'bits': 8}"),
        ({"num_hidden_layers": None}, "'num_hidden_layers' in config.json must be a whole number from 1 on, not None"),
        ({"hidden_size": 8.0}, "'hidden_size' in config.json must be a whole number from 1 on, not 8.0"),
        ({"num_attention_heads": 0}, "'num_attention_heads' in config.json must be a whole number from 1 on, not 0"),
        ({"layer_norm_eps": "1e-5"}, "'layer_norm_eps' in config.json must be a positive number, not '1e-5'"),
        ({"layer_norm_eps": float("nan")}, "'layer_norm_eps' in config.json must be a positive number, not nan"),
        ({"tie_word_embeddings": "no"}, "'tie_word_embeddings' in config.json must be true or false"),
        ({"vocab_size": 20}, "has a vocabulary of 20, the dataset has ids below 30: .*--vocab_size 20"),
        (
            {"max_position_embeddings": 8},
            "--seq_length 16 is longer than --max_position_embeddings 8: lower the former",
        ),
        ({"num_attention_heads": 3}, "--hidden_size 8 is not a multiple of --num_attention_heads 3"),
        ({"hidden_size": 16}, r"'bert.embeddings.* has the shape \[16, 8\], the model needs \[16, 16\]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_do(tensors, tmp_path, settings, says):
    one_line(write(tmp_path / "bert", tensors, **settings), says)


def one_line(folder, says):
    with pytest.raises(UsageError, match=says) as error:
        build(folder)
    assert "\n" not in str(error.value)


def rewrite(folder, change):
    tensors = change(load_file(str(folder / "model.safetensors")))
    save_file(tensors, str(folder / "model.safetensors"))


def to_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def retype(folder, **entry):
    """Change what the header says of the word table, by hand: numpy has no such types."""
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header[WORD].update(entry)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def index(folder, **more):
    """Cut the tensors in two, as transformers does where they are large; the index says of ``more`` in which file
    they are."""
    tensors = load_file(str(folder / "model.safetensors"))
    names = sorted(tensors)
    files = {f"model-0000{number}-of-00002.safetensors": names[number::2] for number in range(2)}
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, str(folder / file))
    places = {**{name: file for file, some in files.items() for name in some}, **more}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "model.safetensors").unlink()


def without(folder, name):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != name}))


@pytest.mark.parametrize(
    "damage, says",
    [
        (to_pickle, "pytorch_model.bin is a pickle, which is never loaded: convert it to model.safetensors"),
        (lambda f: (f / "model.safetensors").unlink(), "it has no model.safetensors$"),
        (
            lambda f: (f / "model.safetensors").rename(f / "model.safetensors.index.json"),
            "model.safetensors.index.json is no JSON file",
        ),
        (
            lambda f: (f / "model.safetensors").rename(f / "bert.safetensors"),
            r"it has no model.safetensors \(rename bert.safetensors, if that is it\)$",
        ),
        (
            lambda f: index(f, x="model-00001-of-00002.safetensors"),
            "'x' is not in model-00001-of-00002.safetensors, where .*index.json says that it",
        ),
        (
            lambda f: index(f, x="../a.safetensors"),
            "model.safetensors.index.json has no 'weight_map' from tensors to files of this folder",
        ),
        (
            lambda f: index(f) or (f / "model-00001-of-00002.safetensors").unlink(),
            "model-00001-of-00002.safetensors: No such file",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors is damaged or no safetensors file"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04" * 99),
            "model.safetensors is damaged or no safetensors file",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-40]),
            "model.safetensors is damaged",
        ),
        (
            lambda f: rewrite(f, lambda t: {**t, WORD: t[WORD].T.copy()}),
            rf"'{WORD}' has the shape \[8, 40\], the model needs \[40, 8\]$",
        ),
        (
            lambda f: rewrite(f, lambda t: {**t, WORD: t[WORD].astype(np.int32)}),
            f"'{WORD}' is of type I32, which cannot be read here",
        ),
        (
            lambda f: retype(f, dtype="F8_E4M3", shape=[40, 32]),
            f"'{WORD}' is of type F8_E4M3, which cannot be read here: save it as float32$",
        ),
        (
            lambda f: rewrite(f, lambda t: {"transformer." + name: value for name, value in t.items()}),
            r"not one of its tensors belongs to this model \(it has transformer.bert.embeddings.Layer",
        ),
        (lambda f: rewrite(f, lambda t: {}), r"not one of its tensors belongs to this model \(it has none at all\)"),
        (lambda f: (f / "config.json").unlink(), "config.json: No such file or directory"),
        (lambda f: (f / "config.json").write_text("{'a': 1}"), "config.json is no JSON file"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is no JSON file"),
        (lambda f: (f / "config.json").write_text("[" * 99999), "config.json is no JSON file"),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json must be a JSON object, not a list"),
        (lambda f: without(f, "hidden_size"), "config.json has no 'hidden_size'"),
    ],
    ids=[
        "pickle",
        "no tensors",
        "a bad index",
        "another name",
        "a tensor too many",
        "a file outside",
        "a file too few",
        "empty",
        "pickle inside",
        "cut off",
        "transposed",
        "integers",
        "float8",
        "other names",
        "no names",
        "no config",
        "no JSON",
        "no text",
        "deep",
        "list",
        "lacks a size",
    ],
)
def test_a_broken_folder_is_one_line_that_names_it(tensors, tmp_path, damage, says):
    folder = write(tmp_path / "bert", tensors)
    damage(folder)
    one_line(folder, f"^--init_from {folder}: {says}")


def test_a_folder_that_is_not_there(tmp_path):
    one_line(tmp_path / "bert-base-uncased", "bert-base-uncased: there is no such folder$")
    (tmp_path / "file").write_text("")
    one_line(tmp_path / "file", "file: there is no such folder$")


def test_old_folders_lack_what_is_usual(tensors, tmp_path):
    folder = write(tmp_path / "bert", tensors)
    for name in ("layer_norm_eps", "model_type", "hidden_act", "type_vocab_size"):
        without(folder, name)
    assert build(folder).sizes["norm_eps"] == 1e-12


# --- from a checkpoint of ours


def test_a_checkpoint_is_a_place_to_start_from(tmp_path, tensors):
    """BERT's second phase: the same weights, another sequence length, an optimizer that begins anew."""
    import dataclasses

    from pipeloom.core.base import files
    from pipeloom.core.checkpoint.describe import manifest_of
    from pipeloom.core.checkpoint.manifest import MANIFEST, FileEntry, Position
    from pipeloom.core.checkpoint.tensors import pieces
    from pipeloom.core.planning.planner import make_plan
    from pipeloom.core.training.run import Run

    flags = [
        "--num_hidden_layers",
        "1",
        "--num_attention_heads",
        "2",
        "--hidden_size",
        "8",
        "--intermediate_size",
        "12",
        "--max_position_embeddings",
        "128",
        "--seq_length",
        "64",
        "--train_steps",
        "7",
    ]
    config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *flags])
    plan = make_plan(config, plugins)
    generator = np.random.default_rng(2)
    values = {spec.name: generator.standard_normal(spec.shape, np.float32) for spec in plan.model.parameters}
    folder = tmp_path / "run" / "checkpoints" / "step_0000007"
    folder.mkdir(parents=True)
    digest, size = files.write_file(folder / "parameters.safetensors", pieces(values))
    manifest = manifest_of(Run(plan, plugins, tmp_path, 0), Position(7, 7), 0.0, "AdamW", {}, {})
    manifest = dataclasses.replace(manifest, files={"parameters.safetensors": FileEntry(digest, size, list(values))})
    files.write_file(folder / MANIFEST, [manifest.to_bytes()])
    for start in (folder, tmp_path / "run"):  # a run directory stands for its newest whole checkpoint
        again = make_plan(
            *parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--init_from", str(start), "--seq_length", "128"])
        )
        value_of = initial_values(again.model, 5)
        assert again.model.weights.missing == [] and again.model.weights.unexpected == []
        for spec in again.model.parameters:
            np.testing.assert_array_equal(value_of(spec), values[spec.name])
        assert again.config.hidden_size == 8 and again.config.seq_length == 128
    (folder / "parameters.safetensors").write_bytes(b"x" * size)
    with pytest.raises(UsageError, match=f"--init_from {folder}: parameters.safetensors is damaged"):
        make_plan(
            *parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--init_from", str(folder), "--seq_length", "128"])
        )


# --- for another task than the folder's

ANSWERS = ("qa_outputs.weight", "qa_outputs.bias")


def build_answering(folder):
    return pipeloom_build_model(
        config=configured("--init_from", str(folder), "--seq_length", "16").replace(vocab_size=30),
        task=QUESTION_ANSWERING,
    )


def test_a_pretrained_model_learns_to_answer(tensors, tmp_path):
    """From BertForPreTraining and BertModel: the encoder is theirs, the head is new, and what is not used is named."""
    for kind, change in (
        ("whole", lambda t: t),
        ("prefix", lambda t: renamed({n: v for n, v in t.items() if n.startswith("bert.")}, ("bert.", ""))),
    ):
        stored = change(tensors)
        model = build_answering(write(tmp_path / kind, stored))
        check(model, tensors, missing=ANSWERS)
        surplus = sorted(name for name in stored if name.startswith("cls.") or "pooler" in name)
        assert model.weights.unexpected == surplus and len(surplus) == (9 if kind == "whole" else 2)
        assert starting_point(model)[1:] == [
            f"missing    2, with their usual initial values: {', '.join(ANSWERS)}",
            f"unexpected {len(surplus)}, ignored: {', '.join(surplus)}",
        ]


@pytest.mark.parametrize("prefix", [True, False])
def test_a_model_that_answers(tensors, tmp_path, prefix):
    body = {name: value for name, value in tensors.items() if name.startswith("bert.") and "pooler" not in name}
    head = {"qa_outputs.weight": np.full((2, 8), 0.5, np.float32), "qa_outputs.bias": np.ones(2, np.float32)}
    stored = {**body, **head} if prefix else {**renamed(body, ("bert.", "")), **head}
    model = build_answering(write(tmp_path / "answers", stored, architectures=["BertForQuestionAnswering"]))
    check(model, {**body, **head})
    assert model.weights.unexpected == [] and len(model.parameters) == len(stored)
