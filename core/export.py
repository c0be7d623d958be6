"""``entry.py export``: a checkpoint as a folder that transformers loads, with tokenizer files and a model card."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

import numpy as np

from pipeloom.core.arguments import Parser, boolean, normalize
from pipeloom.core.checkpoint import disk
from pipeloom.core.errors import RunError, UsageError

_CARD = "README.md"


def export_command(arguments: Sequence[str]) -> int:
    """Make the folder; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    parser = Parser(prog="entry.py export", description="A checkpoint as a folder that transformers loads.")
    _add_arguments(parser)
    options = parser.parse_args([normalize(argument) for argument in arguments])
    # Here and not above: --help should not wait for them.
    from pipeloom.core.checkpoint.source import open_pretrained, vocabulary_for

    folder = open_pretrained(options.checkpoint, "--checkpoint")
    vocabulary = vocabulary_for(folder, options.vocab, options.lowercase)
    output = Path(options.output).expanduser()
    _check(output, options.overwrite)
    try:
        export(folder, vocabulary, output)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error
    config = folder.config
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"{output}: {' or '.join(config.get('architectures', ['a model']))} with {len(folder.tensors)} tensors, its tokenizer and a model card "
          f"({size / 1e6:.1f} MB)")
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="PATH",
        help="a checkpoint (also RUN@best, RUN@last, RUN@120), a run directory (its newest checkpoint) or a "
             "HuggingFace folder")
    add("--output", required=True, metavar="DIR", help="the folder to make; it appears whole or not at all")
    add("--vocab", metavar="FILE", help="vocab.txt, for a checkpoint whose data had none beside it")
    add("--lowercase", type=boolean, metavar="{true,false}", help="as that vocabulary was made [true]")
    add("--overwrite", type=boolean, default=False, metavar="{true,false}", help="replace an --output that is a model [false]")


def _check(output: Path, overwrite: bool) -> None:
    from pipeloom.core.huggingface import CONFIG, TENSORS

    if disk.is_vacant(output):
        return
    if not ((output / CONFIG).is_file() and (output / TENSORS).is_file()):
        raise UsageError(f"--output {output} is there and is no model; give another folder, or move it away")
    if not overwrite:
        raise UsageError(f"--output {output} is there; give another folder, or --overwrite true")


def export(folder: Any, vocabulary: Any, output: Path) -> None:
    """Write the model of ``folder`` (see ``open_pretrained``) to the folder ``output``, in place of what may stand there.

    Raises ``UsageError`` where the vocabulary does not fit the model, ``OSError``.
    """
    from pipeloom.core.checkpoint import tensors
    from pipeloom.core.huggingface import CONFIG, FLOATS, TENSORS
    from pipeloom.core.model_card import model_card

    files = tokenizer_files(vocabulary, folder)
    files[CONFIG] = _json({**folder.config, "torch_dtype": "float32"})
    files[_CARD] = model_card(folder, output.name).encode()
    private = output.with_name(f".{output.name}.writing")
    if private.exists():
        disk.remove_folder(private)     # of an export that was killed
    disk.make_folder(private)
    # Others than those of floats are no parameters: some folders have the numbers of the positions as a tensor.
    kinds = {name: (np.dtype(np.float32), shape) for name, (shape, kind) in sorted(folder.tensors.items()) if kind in FLOATS}
    # transformers asks which library wrote the tensors before it reads them.
    disk.write_file(private / TENSORS, tensors.streamed(kinds, _values(folder, list(kinds)), {"format": "pt"}))
    for name, content in files.items():
        disk.write_file(private / name, [content])
    disk.sync(private)
    disk.replace_folder(private, output)


def _values(folder: Any, names: Sequence[str]) -> Iterator[np.ndarray]:
    return (folder.read(name) for name in names)


def tokenizer_files(vocabulary: Any, folder: Any) -> Dict[str, bytes]:
    """``vocab.txt``, and what both kinds of tokenizers of transformers are made from. Raises ``UsageError``."""
    from tokenizers import AddedToken, Tokenizer, decoders, processors

    from pipeloom.core.data.tokenization import SPECIAL_TOKENS, WordPieceTokenizer
    from pipeloom.core.huggingface import TOKENIZER, VOCABULARY

    words = WordPieceTokenizer.load(vocabulary.path, vocabulary.lowercase)
    size, longest = (folder.setting(name, int) for name in ("vocab_size", "max_position_embeddings"))
    if len(words) > size:
        raise UsageError(f"{vocabulary.path} has {len(words)} tokens, the model has {size}: give the vocabulary that it was trained with by --vocab")
    tokenizer = Tokenizer.from_str(words.to_json())
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", words.cls_id), ("[SEP]", words.sep_id)])
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": vocabulary.lowercase, "strip_accents": None, "tokenize_chinese_chars": True,
                "model_max_length": longest, **names}
    return {VOCABULARY: Path(vocabulary.path).read_bytes(), TOKENIZER: _json(settings), "special_tokens_map.json": _json(names),
            "tokenizer.json": (tokenizer.to_str(pretty=True) + "\n").encode()}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
