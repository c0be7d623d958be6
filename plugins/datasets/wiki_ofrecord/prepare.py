"""``entry.py prepare pretraining``: Wikipedia dumps, books and JSON lines into OFRecord parts of masked-word and
next-sentence examples.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least, boolean
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

SUMMARY = "Wikipedia dumps, books, JSON lines into pre-training examples (OFRecord)"
#: What makes other bytes of the same settings; raise it when the code does.
_FORMAT = 2
#: The options that do not decide what comes out.
_FREE = ("input", "output", "vocab", "workers", "bad_input", "overwrite")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_input_argument(add, "tokens")
    add(
        "--vocab",
        required=True,
        metavar="PATH",
        help="vocab.txt of a WordPiece vocabulary ('prepare vocab' makes one), or a folder with tokenizer files",
    )
    add("--output", required=True, metavar="DIR", help="the folder to make")
    add("--seq_length", type=at_least(5), default=128, metavar="N", help="tokens of an example [128]")
    add(
        "--max_predictions",
        type=at_least(1),
        default=20,
        metavar="N",
        help="masked tokens that an example has room for [20]",
    )
    add("--parts", type=at_least(1), default=16, metavar="N", help="files to write [16]")
    add_workers_argument(add)
    add("--seed", type=at_least(0), default=1, metavar="N", help="of masks, pairs and orders [1]")
    add(
        "--dupe_factor",
        type=at_least(1),
        default=5,
        metavar="N",
        help="differently masked copies of every document [5]",
    )
    add(
        "--short_seq_prob",
        type=_probability,
        default=0.1,
        metavar="P",
        help="how often an example is shorter than it could be [0.1]",
    )
    add(
        "--masked_lm_prob",
        type=_probability,
        default=0.15,
        metavar="P",
        help="the share of tokens that is masked [0.15]",
    )
    add(
        "--whole_word_masking",
        type=boolean,
        default=False,
        metavar="{true,false}",
        help="mask all pieces of a word or none [false]",
    )
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as the vocabulary was made [as its files say, else true]",
    )
    add_text_arguments(add)
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
    from pipeloom.plugins.datasets.wiki_ofrecord.examples import ExampleSettings
    from pipeloom.plugins.libraries.corpus.inputs import find_inputs
    from pipeloom.plugins.libraries.preparation.output_folder import OutputFolder
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
    from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

    inputs = find_inputs(options.input, reading_settings(options))
    examples = ExampleSettings(
        options.seq_length,
        options.max_predictions,
        options.short_seq_prob,
        options.masked_lm_prob,
        whole_word_masking=options.whole_word_masking,
    )
    vocabulary = Vocabulary(Path(options.vocab).expanduser(), options.lowercase)
    tokenizer = WordPieceTokenizer.load(vocabulary.path, vocabulary.lowercase)
    options.lowercase = vocabulary.lowercases()
    _ = tokenizer.mask_id  # raises where there is none: nothing could be learned
    for line in tokenizer.notes:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    started = time.monotonic()
    output = OutputFolder(Path(options.output), _settings(options, inputs, vocabulary), options.overwrite)
    if output.is_ready():
        print(f"{output.path} is there already, made of the same text with the same settings")
        return 0
    with output, Progress(signals) as progress:
        if output.is_begun():
            print(f"going on with {output.path}, which was begun", file=sys.stderr, flush=True)
        if not output.is_complete:
            try:
                output.complete(_make(output, inputs, options, examples, vocabulary, len(tokenizer), progress))
            except UsageError:
                output.discard()  # other options are needed, so nothing can go on from it
                raise
        output.install()
    _say(output.path, time.monotonic() - started)
    return 0


def _make(
    output: Any,
    inputs: Sequence[Any],
    options: argparse.Namespace,
    examples: Any,
    vocabulary: Any,
    vocab_size: int,
    progress: Progress,
) -> Dict[str, Any]:
    """Everything in the folder but its meta.json, whose content this returns."""
    from pipeloom.plugins.datasets.wiki_ofrecord.build import Recipe, make_parts, tokenize
    from pipeloom.plugins.libraries.corpus.sentences import TextSettings
    from pipeloom.plugins.libraries.ofrecord.index import make_index

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

    text = TextSettings(there.path, there.lowercase, options.language, options.min_characters, examples.longest)
    sources, left_out = tokenize(output.work, inputs, text, options.workers, read_counts, reading)
    reasons, templates = without_templates(left_out)
    _check(sources, inputs, reasons)

    weights = None if inputs[0].weight is None else [source.weight for source in inputs]
    recipe = Recipe.plan(output.work, sources, text, examples, options.dupe_factor, weights, options.seed)
    progress.begin("making examples", recipe.visits.blocks)
    made = make_parts(
        output.folder,
        options.parts,
        recipe,
        options.workers,
        lambda blocks, samples: progress.advance(blocks, samples, "samples"),
    )
    progress.begin("checking", made["samples"])
    make_index(output.folder, lambda records: progress.advance(records, records, "samples"))
    return {
        "kind": "pretraining",
        "num_samples": made["samples"],
        "vocab_size": vocab_size,
        "counts": dict(made),
        "left_out": reasons,
        "unknown_templates": templates,
        "sources": [
            {"files": len(source.files), "documents": there.documents, "tokens": there.tokens, "visits": count}
            for source, there, count in zip(inputs, sources, recipe.visits.counts)
        ],
    }


def _check(sources: Sequence[Any], inputs: Sequence[Any], left_out: Dict[str, int]) -> None:
    """Whether there is text to make examples of."""
    why = f" (left out: {listed(left_out)})" if left_out else ""
    for source, given in zip(sources, inputs):
        if not source.documents and (given.weight is not None or len(inputs) == 1):
            raise UsageError(
                f"--input: no document with text in "
                f"{', '.join(map(str, given.files[:3]))}{' ...' if len(given.files) > 3 else ''}{why}"
            )
    if sum(source.documents for source in sources) < 2:
        raise UsageError(
            "--input has one document, and a random next sentence comes from another one: give more files, or cut them "
            "into documents "
            f"with --text_documents blank_lines (or lines, or sentences){why}"
        )


def _settings(options: argparse.Namespace, inputs: Sequence[Any], vocabulary: Any) -> Dict[str, Any]:
    """What decides the bytes that come out, by the option that the user knows it by."""
    decisive = {name: value for name, value in vars(options).items() if name not in _FREE}
    return {
        "format": _FORMAT,
        **decisive,
        "vocab": vocabulary.digest(),
        "input": [[source.weight, source.identity()] for source in inputs],
    }


def _say(path: Path, seconds: float) -> None:
    meta = json.loads((path / "meta.json").read_bytes())
    samples, counts = meta["num_samples"], Counter(meta["counts"])
    documents, tokens = (sum(source[what] for source in meta["sources"]) for what in ("documents", "tokens"))
    print(
        f"{path}: {samples:,} samples in {meta['settings']['parts']} parts from {documents:,} documents with "
        f"{tokens:,} tokens "
        f"({samples / seconds:,.0f} samples/s)"
    )
    print(
        f"a sample has {counts['tokens'] / samples:.1f} tokens, {counts['predictions'] / samples:.1f} of them masked; "
        f"{100 * counts['random next'] / samples:.1f} % have a random next sentence"
    )
    say_left_out(meta["left_out"], meta["unknown_templates"])


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not '{text}'")
    return value


KIND = PrepareKind("pretraining", SUMMARY, add_arguments, run)
