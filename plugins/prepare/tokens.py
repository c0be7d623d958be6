"""``entry.py prepare tokens``: Wikipedia dumps, books and JSON lines into a token folder, for causal language models
and RoBERTa.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import boolean
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.core.launch.control.signals import Signals
from pipeloom.plugins.libraries.corpus.text_arguments import (
    add_input_argument,
    add_text_arguments,
    add_workers_argument,
    reading_settings,
)
from pipeloom.plugins.libraries.preparation.interruptible import run_interruptible
from pipeloom.plugins.libraries.preparation.progress import Progress, listed, say_left_out, without_templates

SUMMARY = "Wikipedia dumps, books, JSON lines into a token folder, for GPT-2 and RoBERTa"
#: What makes other bytes of the same settings; raise it when the code does.
_FORMAT = 1
#: The options that do not decide what comes out.
_FREE = ("input", "output", "vocab", "workers", "bad_input", "overwrite", "plugins")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_input_argument(add)
    add(
        "--vocab",
        required=True,
        metavar="PATH",
        help="the tokenizer: a HuggingFace folder, a tokenizer.json, a vocab.json with its merges.txt beside it "
        "('prepare vocab --kind bpe' makes them), or a vocab.txt",
    )
    add("--output", required=True, metavar="DIR", help="the folder to make")
    add_workers_argument(add)
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="WordPiece: as the vocabulary was made [as its files say, else true]",
    )
    add_text_arguments(add, min_characters=0)
    add(
        "--overwrite",
        type=boolean,
        default=False,
        metavar="{true,false}",
        help="replace an --output that was made otherwise [false]",
    )


def run(options: argparse.Namespace) -> int:
    """Make the folder; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    return run_interruptible(_prepare, options)


def _prepare(options: argparse.Namespace, signals: Signals) -> int:
    # Here and not above: --help should not wait for them.
    from pipeloom.plugins.libraries.corpus.inputs import find_inputs
    from pipeloom.plugins.libraries.preparation.output_folder import OutputFolder
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

    inputs = find_inputs(options.input, replace(reading_settings(options), verbatim=True))
    if inputs[0].weight is not None:
        raise UsageError(
            f"--input {' '.join(options.input)}: tokens have no shares; make a folder of each input and give the "
            "weights to training (--text_path a:0.7,b:0.3)"
        )
    vocabulary = Vocabulary(Path(options.vocab).expanduser(), options.lowercase)
    tokenizer, options.lowercase = vocabulary.load(), vocabulary.lowercases()
    for line in tokenizer.notes:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    if tokenizer.special_id("eos") is None:
        print(
            f"pipeloom: warning: {vocabulary.path} has no token that ends a text (eos_token): the task causal_lm needs "
            "one between documents",
            file=sys.stderr,
        )
    started = time.monotonic()
    output = OutputFolder(Path(options.output).expanduser(), _settings(options, inputs, vocabulary), options.overwrite)
    if output.is_ready():
        print(f"{output.path} is there already, made of the same text with the same settings")
        return 0
    with output, Progress(signals) as progress:
        if output.is_begun():
            print(f"going on with {output.path}, which was begun", file=sys.stderr, flush=True)
        if not output.is_complete:
            try:
                output.complete(_make(output, inputs, options, vocabulary, progress))
            except UsageError:
                output.discard()  # other options are needed, so nothing can go on from it
                raise
        output.install()
    _say(output.path, time.monotonic() - started)
    return 0


def _make(
    output: Any, inputs: Sequence[Any], options: argparse.Namespace, vocabulary: Any, progress: Progress
) -> Dict[str, Any]:
    """Everything in the folder but its meta.json, whose content this returns."""
    from pipeloom.plugins.libraries.tokens.token_writing import ENDS, seal
    from pipeloom.plugins.libraries.tokens.tokenizing import EncodingSettings, tokenize_documents

    for name, content in vocabulary.beside_records().items():
        (output.folder / name).write_bytes(content)
    # The workers read it here, where nobody changes it.
    there = vocabulary.beside(output.folder, options.lowercase)
    read_counts: Counter = Counter()
    for source in inputs:
        source.counts = read_counts
    progress.begin("reading and tokenising", sum(source.size for source in inputs))

    def reading(documents: int = 0) -> None:
        if documents:
            progress.advance(sum(source.bytes_read for source in inputs), documents, "documents")
        else:
            progress.check()

    settings = EncodingSettings(there.path, there.lowercase, options.language, options.min_characters)
    made, left_out = tokenize_documents(
        output.folder, output.work, inputs, settings, options.workers, read_counts, reading
    )
    reasons, templates = without_templates(left_out)
    if not sum(documents for documents, _ in made):
        files = [str(file) for source in inputs for file in source.files]
        why = f" (left out: {listed(reasons)})" if reasons else ""
        raise UsageError(f"--input: no document with text in {', '.join(files[:3])}{' ...' * (len(files) > 3)}{why}")
    source = ", ".join(options.input)
    facts = seal(output.folder, output.work / ENDS, there, source if source.isprintable() else ascii(source))
    return {
        "kind": "tokens",
        "documents": facts.documents,
        "tokens": facts.tokens,
        "vocab_size": facts.vocab_size,
        "left_out": reasons,
        "unknown_templates": templates,
        "sources": [
            {"files": len(source.files), "documents": documents, "tokens": tokens}
            for source, (documents, tokens) in zip(inputs, made)
        ],
    }


def _settings(options: argparse.Namespace, inputs: Sequence[Any], vocabulary: Any) -> Dict[str, Any]:
    """What decides the bytes that come out, by the option that the user knows it by."""
    decisive = {name: value for name, value in vars(options).items() if name not in _FREE}
    vocab, texts = vocabulary.digest(), [source.identity() for source in inputs]
    return {"format": _FORMAT, **decisive, "vocab": vocab, "input": texts}


def _say(path: Path, seconds: float) -> None:
    meta = json.loads((path / "meta.json").read_bytes())
    print(
        f"{path}: {meta['tokens']:,} tokens in {meta['documents']:,} documents "
        f"({meta['tokens'] / seconds:,.0f} tokens/s); train with --text_path {path}"
    )
    say_left_out(meta["left_out"], meta["unknown_templates"])


KIND = PrepareKind("tokens", SUMMARY, add_arguments, run)
