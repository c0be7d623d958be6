"""``entry.py prepare squad``: raw SQuAD JSON into a folder of OFRecord parts."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import is_vacant
from pipeloom.core.contract.arguments import at_least, boolean
from pipeloom.core.contract.commands import PrepareKind

SUMMARY = "SQuAD questions (JSON, 1.1 and 2.0) into inputs for a model, as OFRecord parts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="FILE",
        help="raw SQuAD JSON, for instance train-v1.1.json, or JSON lines of rows; perhaps compressed",
    )
    add(
        "--vocab",
        required=True,
        metavar="PATH",
        help="vocab.txt of a WordPiece vocabulary, or a folder with tokenizer files (byte-level BPE too)",
    )
    add("--output", required=True, metavar="DIR", help="the folder to make; it appears whole or not at all")
    add(
        "--split",
        choices=("train", "eval"),
        default="train",
        help="train: with the places of the answers; eval: with unique_ids too [train]",
    )
    add(
        "--lowercase",
        type=boolean,
        metavar="{true,false}",
        help="as the vocabulary was made [as its files say, else true]",
    )
    add("--seq_length", type=at_least(1), default=384, metavar="N", help="tokens of an input, padding included [384]")
    add(
        "--doc_stride",
        type=at_least(1),
        metavar="N",
        help="tokens from one window of a long context to the next [128, or half of an input]",
    )
    add(
        "--max_query_length",
        type=at_least(1),
        metavar="N",
        help="tokens of a question; what is longer is cut [64, or half of an input that has no room for it]",
    )
    add("--parts", type=at_least(1), default=1, metavar="N", help="files to write [1]")
    add(
        "--overwrite",
        type=boolean,
        default=False,
        metavar="{true,false}",
        help="replace an --output that was made otherwise [false]",
    )


def run(options: argparse.Namespace) -> int:
    """Make the folder. Returns 0; raises ``UsageError`` or ``RunError``."""
    # Here and not above: 'prepare --help' should not wait for what reads data.
    from pipeloom.core.data.mixture import paths_in
    from pipeloom.plugins.datasets.squad.records import Conversion
    from pipeloom.plugins.libraries.questions.features import FeatureSettings, sizes_for

    output, vocab = (Path(path).expanduser() for path in (options.output, options.vocab))
    sources = tuple(Path(path).expanduser() for text in options.input for path in paths_in(text))
    usual = sizes_for(options.seq_length)
    sizes = FeatureSettings(options.seq_length, **{name: getattr(options, name) or usual[name] for name in usual})
    conversion = Conversion(sources, options.split, vocab, options.lowercase, sizes, options.parts)
    return _convert(conversion, output, options.overwrite)


def _convert(conversion: Any, output: Path, overwrite: bool) -> int:
    begin = time.monotonic()
    if _is_there(output, conversion.settings(), overwrite):
        print(f"{output} is already there, made with these settings")
        return 0
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        meta = conversion.write(output)
    except (OSError, RunError) as error:
        cause = error.__cause__ or error  # of a RunError that names a part in a folder which is gone by now
        raise RunError(f"cannot write {output}: {getattr(cause, 'strerror', None) or cause}") from error
    except KeyboardInterrupt:
        raise RunError(f"interrupted while making {output}") from None
    for line in meta["reasons"]:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(
        f"{output}: {meta['num_samples']} inputs of {conversion.sizes.seq_length} tokens from {meta['questions']} "
        f"questions for "
        f"{conversion.split}, {meta['left_out']} left out, SQuAD {'2.0' if meta['version_2'] else '1.1'} "
        f"({size / 1e6:.1f} MB in {time.monotonic() - begin:.1f} s)"
    )
    return 0


def _is_there(output: Path, settings: Dict[str, Any], overwrite: bool) -> bool:
    """Whether ``output`` is already what is asked for. Raises ``UsageError`` where it is something else that must
    stay.
    """
    from pipeloom.plugins.libraries.ofrecord.question_records import read_meta
    from pipeloom.plugins.libraries.preparation.folders import is_intact

    if is_vacant(output):
        return False
    try:
        meta = read_meta(output)
    except UsageError:  # not even to be overwritten: it may hold anything
        raise UsageError(
            f"--output {output} exists and is not of 'prepare squad': give another name, or remove it"
        ) from None
    if overwrite:
        return False
    for name, wanted in settings.items():
        found = meta["settings"].get(name)
        if found != wanted:
            is_file = name in ("input", "vocab")
            difference = (
                f"from another --{name} file" if is_file else f"with {name} {_text(found)}, not {_text(wanted)}"
            )
            raise UsageError(
                f"--output {output} was made {difference}: --overwrite true replaces it, or give another name"
            )
    if not is_intact(output):
        raise UsageError(f"--output {output} is damaged: --overwrite true makes it again")
    return True


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


KIND = PrepareKind("squad", SUMMARY, add_arguments, run)
