"""``entry.py export``: a checkpoint as a folder that transformers loads, with tokenizer files and a model card."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Sequence

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import is_vacant, whole_folder, write_file
from pipeloom.core.base.output import ESCAPE
from pipeloom.core.contract.arguments import Parser, boolean, normalize
from pipeloom.core.contract.commands import Command

_CARD = "README.md"


def export_command(arguments: Sequence[str]) -> int:
    """Make the folder; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    parser = Parser(prog="entry.py export", description="A checkpoint as a folder that transformers loads.")
    _add_arguments(parser)
    options = parser.parse_args([normalize(argument) for argument in arguments])
    # Here and not above: --help should not wait for them.
    from pipeloom.plugins.libraries.huggingface.shards import parse_size
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained, vocabulary_for

    max_bytes = parse_size(options.max_shard_size)
    folder = open_pretrained(options.checkpoint, "--checkpoint")
    vocabulary = vocabulary_for(folder, options.vocab, options.lowercase)
    output = Path(options.output).expanduser()
    _check(output, options.overwrite)
    try:
        export(folder, vocabulary, output, options.dtype, max_bytes)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error
    config = folder.config
    size = sum(path.stat().st_size for path in output.iterdir())
    print(
        f"{output}: {' or '.join(config.get('architectures', ['a model']))} with {len(folder.tensors)} tensors, its "
        f"tokenizer and a model card ({size / 1e6:.1f} MB)"
    )
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a checkpoint (also RUN@best, RUN@last, RUN@120), a run directory (its newest checkpoint) or a "
        "HuggingFace folder",
    )
    add("--output", required=True, metavar="DIR", help="the folder to make; it appears whole or not at all")
    add(
        "--vocab",
        metavar="PATH",
        help="vocab.txt, or a folder with tokenizer files, for a checkpoint whose data had none beside it",
    )
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as that vocabulary was made [as its files say, else true]",
    )
    add(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="the type of the weights in the folder [float32]",
    )
    add(
        "--max_shard_size",
        default="5GB",
        metavar="SIZE",
        help="begin another file of weights before one is larger (500MB, 2GiB) [5GB]",
    )
    add(
        "--overwrite",
        type=boolean,
        default=False,
        metavar="{true,false}",
        help="replace an --output that is a model [false]",
    )


def _check(output: Path, overwrite: bool) -> None:
    from pipeloom.plugins.libraries.huggingface.folder import CONFIG, INDEX, TENSORS

    if is_vacant(output):
        return
    if not ((output / CONFIG).is_file() and any((output / name).is_file() for name in (TENSORS, INDEX))):
        raise UsageError(f"--output {output} is there and is no model; give another folder, or move it away")
    if not overwrite:
        raise UsageError(f"--output {output} is there; give another folder, or --overwrite true")


def export(folder: Any, vocabulary: Any, output: Path, dtype: str, max_bytes: int) -> None:
    """Write the model of ``folder`` (see ``open_pretrained``) to the folder ``output``, in place of what may stand
    there: weights of ``dtype``, in files of ``max_bytes``; with the ``vocabulary``, where that is not ``None``.

    Raises ``UsageError`` where the vocabulary does not fit the model, ``OSError``.
    """
    from pipeloom.plugins.libraries.huggingface.folder import CONFIG
    from pipeloom.plugins.libraries.huggingface.model_card import model_card
    from pipeloom.plugins.libraries.huggingface.shards import write_tensors

    files = tokenizer_files(vocabulary, folder) if vocabulary is not None else {}
    named = {name: dtype for name in ("torch_dtype", "dtype") if name == "torch_dtype" or name in folder.config}
    files[CONFIG] = _json({**folder.config, **named, **text_ends(vocabulary, folder)})
    files[_CARD] = model_card(folder, output.name).encode("utf-8", ESCAPE)
    sources = _sources(folder)
    with whole_folder(output) as scratch:
        # transformers asks which library wrote the tensors before it reads them.
        write_tensors(scratch, folder, sources, dtype, max_bytes, {"format": "pt"})
        for name, content in files.items():
            write_file(scratch / name, content)


def text_ends(vocabulary: Any, folder: Any) -> Dict[str, int]:
    """Return the ids of the tokens that begin and end a text where config.json leaves them open, as that of a model
    that was trained anew does: by them transformers knows where a generated text ends.
    """
    if vocabulary is None:
        return {}
    words = vocabulary.load()
    ids = {f"{role}_token_id": words.special_id(role) for role in ("bos", "eos")}
    return {name: number for name, number in ids.items() if number is not None and folder.config.get(name, 0) is None}


def _sources(folder: Any) -> Dict[str, str]:
    """The tensors to write, each with that of ``folder`` which it is. Raises ``UsageError`` for some that cannot be
    read."""
    from pipeloom.core.checkpoint.tensors import FLOATS

    found = {name: name for name, (_, kind) in folder.tensors.items() if kind in FLOATS}
    if not folder.setting("tie_word_embeddings", bool, True):
        # What transformers ties by itself otherwise.
        found = {**{name: source for name, source in folder.repeated.items() if source in found}, **found}
    for name, (_, kind) in folder.tensors.items():
        # Some folders have the numbers of the positions as a tensor.
        if name not in found and not name.endswith(("position_ids", "token_type_ids")):
            raise folder.error(f"'{name}' is of type {kind}, which cannot be read here: save it as float32")
    return dict(sorted(found.items()))


def tokenizer_files(vocabulary: Any, folder: Any) -> Dict[str, bytes]:
    """The tokenizer files as they are, and those that they lack of what transformers' tokenizers are made from.

    Raises ``UsageError`` where the tokenizer does not fit the model.
    """
    from pipeloom.plugins.libraries.huggingface.source import positions_in
    from pipeloom.plugins.libraries.text.tokenizer_files import (
        BERT,
        BYTE_VOCABULARY,
        MERGES,
        PIPELINE,
        SETTINGS,
        SPECIAL_NAMES,
        VOCABULARY,
    )

    files, words = vocabulary.read(), vocabulary.load(special_in_text=True)
    for line in words.notes:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    size, longest = folder.setting("vocab_size", int), positions_in(folder.config)
    if len(words) > size:
        raise UsageError(
            f"{vocabulary.path} has {len(words)} tokens, the model has {size}: give the vocabulary that it was "
            "trained with by --vocab"
        )
    content = files.content()
    named = files.class_for(folder.config.get("model_type"))
    length = {} if longest is None else {"model_max_length": longest}
    settings = {"tokenizer_class": named, **length, **files.settings}
    if not files.is_whole:
        names = {name: text for name, text in words.role_names().items() if text is not None or files.kind == BERT}
        tokens_alone = set(content) <= {VOCABULARY, BYTE_VOCABULARY, MERGES, SETTINGS}
        if tokens_alone and "added_tokens_decoder" not in files.settings:
            content[SPECIAL_NAMES] = _json({name: files.settings.get(name, text) for name, text in names.items()})
        settings = {**_USUAL[files.kind], **names, **settings}
    content[SETTINGS] = _json(settings)
    # A file of this kind cannot say that two lines of vocab.txt are one token.
    if PIPELINE not in content and "" not in words.tokens:
        content[PIPELINE] = (words.to_json() + "\n").encode()
    return content


#: What tokenizer_config.json says by the kind of tokenizer, where its files do not.
_USUAL: Dict[str, Dict[str, Any]] = {
    "bert": {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
    "byte_bpe": {"add_prefix_space": False},
}


def _json(content: Any) -> bytes:
    # Halves of characters, which JSON can name and UTF-8 cannot, stay escapes.
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", ESCAPE)


COMMAND = Command("export", "a checkpoint as a folder that transformers loads", export_command)
