"""The options that say how text is read, the same for all that is prepared from text."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
from typing import Any, Callable, Optional

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.arguments import at_least


def add_input_argument(add: Callable[..., Any], shares: Optional[str] = None) -> None:
    """Declare ``--input``; ``add`` is ``parser.add_argument``, ``shares`` what weights are shares of, if any."""
    weights = f". With weights (wiki.xml.bz2:0.7 'books/*.txt:0.3') each gives its share of the {shares}"
    add(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE" if shares is None else "FILE[:WEIGHT]",
        help="files, patterns or folders: MediaWiki dumps, WikiExtractor's output, JSON, plain text; also compressed "
        f"(bz2, gzip, xz, zstd){'' if shares is None else weights}",
    )


def add_workers_argument(add: Callable[..., Any]) -> None:
    add(
        "--workers",
        type=at_least(0),
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that do the work; what comes out does not depend on it [one for each core]",
    )


def add_text_arguments(add: Callable[..., Any], min_characters: int = 200) -> None:
    """Declare how text is read; ``min_characters`` is the default of the option of that name."""
    add(
        "--language",
        type=_language,
        default="en",
        metavar="CODE",
        help="ISO 639 code, for the ends of sentences; one that sentencex does not know is taken as English [en]",
    )
    add(
        "--text_documents",
        choices=("file", "blank_lines", "lines", "sentences"),
        default="file",
        help="plain text: a document is a file, ends at a blank line, or is a line; sentences: each line is one, "
        "and a document ends at a blank line, as in BERT's own sample_text.txt [file]",
    )
    add(
        "--text_key",
        type=_key,
        default="text",
        metavar="KEY",
        help="JSON: where in an object its text is, a string or a list of sentences; a.b is the b in the object a "
        "[text]",
    )
    add(
        "--min_characters",
        type=at_least(0),
        default=min_characters,
        metavar="N",
        help=f"documents with less text are left out [{min_characters}]",
    )
    add(
        "--max_characters",
        type=at_least(1000),
        default=10_000_000,
        metavar="N",
        help="longer documents are cut, pages of a dump left out: what bounds the memory [10000000]",
    )
    add(
        "--bad_input",
        choices=("stop", "skip"),
        default="stop",
        help="damaged files and lines: stop with an error, or take what can be read and count the rest [stop]",
    )


def reading_settings(options: argparse.Namespace) -> Any:
    """Return what the options say of the reading. Raises ``UsageError`` where a library for it is missing."""
    require_text_libraries()
    # Here and not above: --help should not wait for it.
    from pipeloom.plugins.libraries.corpus.documents import ReadingSettings

    return ReadingSettings(
        options.max_characters, options.text_documents, options.bad_input == "skip", options.text_key
    )


def require_text_libraries() -> None:
    """Raise ``UsageError`` where a library is missing that reads markup and splits sentences."""
    missing = [name for name in ("mwparserfromhell", "sentencex") if not _is_installed(name)]
    if missing:
        raise UsageError(
            f"reading text needs {' and '.join(missing)}, not installed here: pip install 'pipeloom[prepare]' "
            "(in a checkout: ./run_ppl.sh, or pip install -e '.[prepare]')"
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # in sys.modules without a spec
        return False


def _key(text: str) -> str:
    if not text.strip("."):
        raise argparse.ArgumentTypeError(f"must be the name of a key, not '{text}'")
    return text


def _language(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)*", text):
        raise argparse.ArgumentTypeError(f"must be a code like en or de, not '{text}'")
    return text
