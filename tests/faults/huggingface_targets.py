"""What the fuzzer reads of HuggingFace folders: tokenizer files, of both kinds, and models in one file or several."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
from mutations import Files, Mutation, Target, change_somewhere
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer

from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.commands.cli import parse
from pipeloom.core.host.task_choice import find_task
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer
from pipeloom.plugins.libraries.text.tokenizer_building import digest
from pipeloom.plugins.libraries.text.tokenizer_files import TokenizerFiles

_WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] paris rome is in ##s a ##b <s> müde".split()
_TEXTS = ("", "Paris is in Rome [MASK]", "a\u0301bs m\u00fcde <s> \u4e2d\U0001f600\x00")
_SETTINGS = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "never_split": None,
    "cls_token": "[CLS]",
    "sep_token": {"__type": "AddedToken", "content": "[SEP]", "lstrip": False, "normalized": False},
    "extra_special_tokens": ["<s>"],
    "model_input_names": ["input_ids", "token_type_ids"],
    "split_special_tokens": False,
    "added_tokens_decoder": {"14": {"content": "big word", "lstrip": True, "special": False}},
}


def read_tokenizer(folder: Path) -> None:
    tokenizer = WordPieceTokenizer.load(folder, special_in_text=True)
    assert 0 <= min(tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
    assert (
        max(tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
        < len(tokenizer)
        == len(tokenizer.continuing)
    )
    for text in _TEXTS:
        ids, spans = tokenizer.encode_with_offsets(text)
        assert all(0 <= number < len(tokenizer) for number in ids) and all(
            0 <= start <= end <= len(text) for start, end in spans
        )
    files = TokenizerFiles.read(folder)
    assert len(digest(files)) == 64 and files.content()
    assert files.is_whole or WordPieceTokenizer.load(folder, lowercase=False).encode("") == []


@functools.lru_cache(maxsize=None)
def _tokenizers() -> Mapping[str, Mapping[str, bytes]]:
    tokenizer = WordPieceTokenizer.of(_WORDS)
    whole = Tokenizer.from_str(tokenizer.to_json())
    whole.add_tokens([AddedToken("big word", lstrip=True), "x"])
    older = {
        "vocab.txt": "\n".join(_WORDS).encode(),
        "tokenizer_config.json": _json({**_SETTINGS, "added_tokens_decoder": {}}),
        "special_tokens_map.json": _json({"mask_token": "[MASK]", "pad_token": {"content": "[PAD]", "lstrip": False}}),
        "added_tokens.json": _json({"big word": 14}),
    }
    del_decoder = {name: value for name, value in _SETTINGS.items() if name != "added_tokens_decoder"}
    return {
        "tokenizer": {**older, "tokenizer_config.json": _json(del_decoder)},
        "new tokenizer": {"tokenizer.json": whole.to_str().encode(), "tokenizer_config.json": _json(_SETTINGS)},
        "whole tokenizer": {
            "tokenizer.json": whole.to_str().encode(),
            "tokenizer_config.json": _json({**_SETTINGS, "tokenizer_class": "PreTrainedTokenizerFast"}),
        },
    }


def read_model(folder: Path) -> None:
    flags = ["--plugins", "inter_first,bert,wiki_ofrecord", "--init_from", str(folder), "--seq_length", "16"]
    config, plugins = parse(flags)
    config = config.replace(vocab_size=20)
    model = plugins.hook.pipeloom_build_model(config=config, task=find_task(plugins, config, "pretraining"))
    value_of = initial_values(model, 1)
    for spec in model.parameters:
        value = value_of(spec)
        assert value.shape == tuple(spec.shape) and value.dtype == np.float32


@functools.lru_cache(maxsize=None)
def _models() -> Mapping[str, Mapping[str, bytes]]:
    config, plugins = parse(
        [
            "--plugins",
            "inter_first,bert,wiki_ofrecord",
            "--num_hidden_layers",
            "1",
            "--num_attention_heads",
            "1",
            "--hidden_size",
            "4",
            "--intermediate_size",
            "4",
            "--max_position_embeddings",
            "16",
            "--seq_length",
            "16",
        ]
    )
    config = config.replace(vocab_size=20)
    model = plugins.hook.pipeloom_build_model(config=config, task=find_task(plugins, config, "pretraining"))
    tensors = {spec.name: np.zeros(spec.shape, np.float32) for spec in model.parameters}
    settings = {**model.huggingface, "dtype": "float32", "is_decoder": False}
    names = sorted(tensors)
    with tempfile.TemporaryDirectory() as folder:
        pieces = {}
        for file, some in (
            ("model.safetensors", names),
            ("model-1.safetensors", names[::2]),
            ("model-2.safetensors", names[1::2]),
        ):
            save_file({name: tensors[name] for name in some}, str(Path(folder) / file))
            pieces[file] = (Path(folder) / file).read_bytes()
    index = {name: f"model-{1 + number % 2}.safetensors" for number, name in enumerate(names)}
    return {
        "model": {"config.json": _json(settings), "model.safetensors": pieces.pop("model.safetensors")},
        "model in pieces": {
            "config.json": _json(settings),
            "model.safetensors.index.json": _json({"weight_map": index}),
            **pieces,
        },
    }


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()


def _another_value(files: Files, rng: np.random.Generator) -> Files:
    name = str(rng.choice(sorted(name for name in files if name.endswith(".json"))))
    content = json.loads(files[name])
    change_somewhere(content, rng)
    return {**files, name: _json(content)}


def _another_header(files: Files, rng: np.random.Generator) -> Files:
    name = str(rng.choice(sorted(name for name in files if name.endswith(".safetensors"))))
    size = int.from_bytes(files[name][:8], "little")
    header = json.loads(files[name][8 : 8 + size])
    change_somewhere(header, rng)
    text = _json(header)
    return {**files, name: len(text).to_bytes(8, "little") + text + files[name][8 + size :]}


def _targets() -> Dict[str, Target]:
    values: Dict[str, Mutation] = {"another value": _another_value, "yet another": _another_value}
    found = {
        name: Target(read_tokenizer, lambda name=name: dict(_tokenizers()[name]), lambda: dict(values), r"{folder}")
        for name in ("tokenizer", "new tokenizer", "whole tokenizer")
    }
    found.update(
        (
            name,
            Target(
                read_model,
                lambda name=name: dict(_models()[name]),
                lambda: {**values, "another header": _another_header},
                r"^--init_from {folder}|^--hidden_size|^--seq_length",
            ),
        )
        for name in ("model", "model in pieces")
    )
    return found


HUGGINGFACE_TARGETS = _targets()
