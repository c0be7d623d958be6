"""``entry.py prepare vocab``: a WordPiece or byte-level BPE vocabulary, trained on the texts that ``prepare
pretraining`` reads.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import replace_files
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.core.launch.control.signals import Signals, Stopped
from pipeloom.plugins.libraries.corpus.text_arguments import (
    add_input_argument,
    add_text_arguments,
    add_workers_argument,
    reading_settings,
)
from pipeloom.plugins.libraries.preparation.progress import Progress, listed, say_left_out, without_templates
from pipeloom.plugins.libraries.text.long_runs import without_long_runs

SUMMARY = "a WordPiece or byte-level BPE vocabulary from the same texts"
#: The files of each kind.
_FILES = {"wordpiece": ("vocab.txt",), "bpe": ("vocab.json", "merges.txt")}
#: Sentences on which it is said how many tokens a word takes.
_MEASURED = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_input_argument(add, "characters")
    add(
        "--output",
        required=True,
        metavar="DIR",
        help="the folder for vocab.txt (WordPiece), or vocab.json and merges.txt (BPE)",
    )
    add(
        "--kind",
        choices=tuple(_FILES),
        default="wordpiece",
        help="WordPiece as BERT has it, or byte-level BPE as GPT-2 and RoBERTa [wordpiece]",
    )
    add("--vocab_size", type=at_least(1), default=30522, metavar="N", help="the most tokens that it may have [30522]")
    add(
        "--lowercase",
        type=boolean,
        default=None,
        metavar="{true,false}",
        help="WordPiece: lower case, without accents [true]",
    )
    add(
        "--min_frequency",
        type=at_least(1),
        default=2,
        metavar="N",
        help="a token of more than one character is in the text so many times [2]",
    )
    add(
        "--limit_alphabet",
        type=at_least(1),
        default=None,
        metavar="N",
        help="WordPiece: keep only the N most frequent characters; the others become [UNK] "
        "[all, or if they are many those that make up a millionth of the text]",
    )
    add(
        "--sample_characters",
        type=at_least(1000),
        default=100_000_000,
        metavar="N",
        help="train on documents with so many characters together, chosen at random: what bounds the memory "
        "[100000000]",
    )
    add("--seed", type=at_least(0), default=1, metavar="N", help="of that choice [1]")
    add_workers_argument(add)
    add_text_arguments(add)
    add(
        "--overwrite",
        type=boolean,
        default=False,
        metavar="{true,false}",
        help="replace a vocabulary that is there [false]",
    )


def run(options: argparse.Namespace) -> int:
    """Make the files; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    if options.kind == "bpe" and options.lowercase is not None:
        raise UsageError("--lowercase is for --kind wordpiece: byte-level BPE keeps every byte; leave it out")
    if options.kind == "bpe" and options.limit_alphabet is not None:
        raise UsageError(
            "--limit_alphabet is for --kind wordpiece: byte-level BPE has the 256 bytes and no other alphabet; "
            "leave it out"
        )
    folder = Path(options.output).expanduser()
    there = [folder / name for name in _FILES[options.kind] if (folder / name).exists()]
    if there and not options.overwrite:
        raise UsageError(f"--output: {there[0]} is there; give another folder, or --overwrite true")
    try:
        made = _make_folder(folder)
        try:
            return _prepare(options, folder)
        finally:
            if made and not any(folder.iterdir()):
                folder.rmdir()
    except Stopped as stopped:
        print(f"stopped by {stopped}; nothing was written", file=sys.stderr, flush=True)
        return stopped.exit_code
    except OSError as error:
        raise RunError(f"cannot read or write {error.filename or folder}: {error.strerror or error}") from error


def _make_folder(folder: Path) -> bool:
    """Whether it had to be made."""
    try:
        there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be made: {error.strerror or error}; give a folder that can be"
        ) from None
    return not there


def _prepare(options: argparse.Namespace, folder: Path) -> int:
    # Here and not above: --help should not wait for them.
    from pipeloom.plugins.libraries.corpus.inputs import find_inputs

    inputs = find_inputs(options.input, reading_settings(options))
    with Signals() as signals, Progress(signals) as progress:
        samples, left_out = _read(options, inputs, folder, progress)
    sentences = _Sentences(samples)
    if not any(map(len, samples)):
        raise UsageError(f"--input has no document with text{f' (left out: {listed(left_out)})' if left_out else ''}")
    print(
        f"training on {sum(map(len, samples)):,} documents with {sum(sample.characters for sample in samples):,} "
        f"characters",
        flush=True,
    )
    started = time.monotonic()
    # The training cannot be asked to stop, and has written nothing: Ctrl-C may end the process there and then.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        made = _train(options, sentences)
    finally:
        signal.signal(signal.SIGINT, before)
    replace_files(folder, made.files)
    seconds = time.monotonic() - started
    print(
        f"{' and '.join(str(folder / name) for name in made.files)}: {made.size:,} tokens in {seconds:.1f} s; "
        f"{_measured(sentences, made)}"
    )
    for remark in _remarks(options, made):
        print(remark)
    say_left_out(*without_templates(left_out))
    return 0


def _remarks(options: argparse.Namespace, made: _Made) -> List[str]:
    """Which characters have no place in it, and why it is smaller than it may be."""
    found = []
    if made.characters is not None:
        counts = made.characters.counts
        missing = [character for character in counts if character not in made.tokens]
        share = sum(counts[character] for character in missing) / max(1, sum(counts.values()))
        more = "a larger --limit_alphabet" if options.limit_alphabet is not None else "a larger --vocab_size"
        if options.limit_alphabet is None and all(map(made.characters.is_rare, missing)):
            more = f"--limit_alphabet {len(counts)}"
        found.append(
            f"{len(missing):,} of the {len(counts):,} characters of the text, {100 * share:.3g} % of it, are not in "
            f"it and become [UNK]: {more} keeps more"
            if missing
            else f"all {len(counts):,} characters of the text are in it"
        )
    if made.size < options.vocab_size:
        kept = "of the characters that are in it " if found and "[UNK]" in found[0] else ""
        why = (
            f"{kept}the text has no more tokens that occur --min_frequency {options.min_frequency} times"
            if options.min_frequency > 1
            else "every word of the text is a token"
        )
        found.append(f"{why}: --vocab_size {options.vocab_size} was not reached")
    return found


def _read(
    options: argparse.Namespace, inputs: Sequence[Any], folder: Path, progress: Progress
) -> Tuple[List[Any], Counter]:
    """The text to train on, and the counts of what was left out."""
    from pipeloom.plugins.prepare.text_sample import TextSample, sample_text

    counts: Counter = Counter()
    for source in inputs:
        source.counts = counts
    weights = [source.weight for source in inputs]
    if weights[0] is None:
        samples = [TextSample(options.sample_characters, folder)]
        by_input = samples * len(inputs)
    else:
        samples = by_input = [TextSample(options.sample_characters * weight, folder) for weight in weights]
    progress.begin("reading", sum(source.size for source in inputs))
    left_out = sample_text(
        inputs,
        by_input,
        (options.language, options.min_characters),
        options.seed,
        options.workers,
        lambda documents: progress.advance(sum(source.bytes_read for source in inputs), documents, "documents"),
    )
    if weights[0] is not None:
        for source, sample in zip(inputs, samples):
            if not len(sample):
                raise UsageError(f"--input: no document with text in {', '.join(map(str, source.files[:3]))}")
        # All give what the one can that has least for its weight.
        whole = min(sample.characters / weight for sample, weight in zip(samples, weights))
        for sample, weight in zip(samples, weights):
            sample.trim(whole * weight)
    return samples, counts + left_out


class _Sentences:
    """All sentences of some samples; may be walked more than once."""

    def __init__(self, samples: Sequence[Any]) -> None:
        self._samples = samples

    def __iter__(self) -> Any:
        return map(without_long_runs, itertools.chain.from_iterable(self._samples))


@dataclass(frozen=True)
class _Made:
    """A vocabulary: its ``files`` by name, what encodes a list of sentences, and of WordPiece its tokens and the text's
    characters."""

    files: Dict[str, bytes]
    size: int
    encode: Callable[[List[str]], List[Any]]
    tokens: FrozenSet[str] = frozenset()
    characters: Any = None
    unknown: Optional[int] = None


def _train(options: argparse.Namespace, sentences: _Sentences) -> _Made:
    if options.kind == "bpe":
        from pipeloom.plugins.libraries.text.byte_bpe import files_of, train_byte_bpe

        bpe = train_byte_bpe(sentences, options.vocab_size, options.min_frequency)
        return _Made(
            files_of(bpe), bpe.get_vocab_size(), lambda texts: [encoding.ids for encoding in bpe.encode_batch(texts)]
        )
    from pipeloom.plugins.libraries.text.tokenization import count_characters, train_wordpiece

    lowercase = options.lowercase is not False
    characters = count_characters(sentences, lowercase)
    wordpiece = train_wordpiece(
        sentences, options.vocab_size, lowercase, options.min_frequency, options.limit_alphabet, characters
    )
    content = "".join(token + "\n" for token in wordpiece.tokens).encode()
    return _Made(
        {"vocab.txt": content},
        len(wordpiece),
        wordpiece.encode_batch,
        frozenset(wordpiece.tokens),
        characters,
        wordpiece.unk_id,
    )


def _measured(sentences: _Sentences, made: _Made) -> str:
    """How many tokens a word between spaces takes, and how many are unknown, in the first sentences."""
    some = list(itertools.islice(sentences, _MEASURED))
    words, encoded = sum(len(sentence.split()) for sentence in some), made.encode(some)
    tokens = sum(map(len, encoded))
    unknown = sum(list(ids).count(made.unknown) for ids in encoded) if made.unknown is not None else 0
    share = f", {100 * unknown / tokens:.3g} % of them [UNK]" if unknown else ""
    return f"a word between spaces takes {tokens / max(words, 1):.3f} tokens{share}"


KIND = PrepareKind("vocab", SUMMARY, add_arguments, run)
