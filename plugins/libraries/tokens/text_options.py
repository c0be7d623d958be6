"""The options of data sets of running text, and the token folders that they name: prepared ones, or those of the cache
that text is turned into, once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError

if TYPE_CHECKING:  # listing the plugins should not wait for what reads data
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
    from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder

_TEXT = "plain text, JSON lines, MediaWiki dumps, also compressed"


def add_text_options(options: Any) -> None:
    """Declare the options; ``options`` is what pipeloom_add_options gets."""
    add = options.add
    add(
        "text_path",
        str,
        default=None,
        section="data",
        resume="free",
        path="weighted",
        help=f"text to train on: folders of 'prepare tokens', or files and folders of text ({_TEXT}), which becomes "
        "tokens once, in the cache; several with commas between them, perhaps with the shares of the samples "
        "(wiki:0.7,books:0.3); default: a small English text",
    )
    add(
        "eval_path",
        str,
        default=None,
        section="data",
        resume="free",
        path=True,
        help="held-out text, one file or folder of any of these kinds, evaluated after the last step and every "
        "--eval_every; default with that: for the small English text, another one",
    )
    add(
        "vocab",
        str,
        default=None,
        section="data",
        resume="free",
        path=True,
        help="tokenizer of raw text: a HuggingFace folder, a tokenizer.json, or a vocab.json with its merges.txt "
        "(default: that of a token folder, else of --init_from, else a byte-level BPE trained on the text, of at most "
        "--vocab_size or 8192 tokens)",
    )
    add(
        "text_documents",
        str,
        default="file",
        section="data",
        choices=("file", "blank_lines", "lines"),
        help="what is a document of plain text: a file, what stands between blank lines, or a line",
    )
    add("text_key", str, default="text", section="data", help="JSON: where in an object its text is; a.b: b in a")


def training_folders(config: Any) -> List[Tuple[TokenFolder, Optional[float]]]:
    """Return the token folders to train on with their weights, ``None`` where none were given.

    All have one vocabulary. Text is turned into tokens where that was not done yet. Raises ``UsageError``.
    """
    from pipeloom.plugins.libraries.tokens.text_folders import EMBEDDED, text_folder

    named = _named(config)
    if not named:
        return [(text_folder(config, EMBEDDED, training_vocabulary(config)), None)]
    folders, vocabulary = _given(named), None
    found: List[Tuple[TokenFolder, Optional[float]]] = []
    for path, weight in named:
        folder = folders.get(path)
        if folder is None:
            vocabulary = training_vocabulary(config) if vocabulary is None else vocabulary
            folder = text_folder(config, path, vocabulary)
        found.append((folder, weight))
    first = found[0][0]
    for folder, _ in found[1:]:
        check_same_vocabulary(folder, first, "--text_path")
    _check_start(config, first)
    return found


def held_out_folder(config: Any, training: TokenFolder) -> TokenFolder:
    """Return the token folder of held-out text, in the vocabulary of ``training``. Raises ``UsageError``."""
    from pipeloom.core.data.mixture import path_and_weight, paths_in
    from pipeloom.plugins.libraries.tokens.text_folders import HELD_OUT, text_folder
    from pipeloom.plugins.libraries.tokens.token_format import is_token_folder
    from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder

    if config.eval_path is None:
        if config.text_path is not None:
            raise UsageError(
                f"--eval_every {config.eval_every}: which text is held out from --text_path? give other text with "
                "--eval_path"
            )
        return text_folder(config, HELD_OUT, training_vocabulary(config))
    pieces = paths_in(config.eval_path)
    if len(pieces) > 1 or path_and_weight(pieces[0], "--eval_path")[1] is not None:
        raise UsageError(
            f"--eval_path {config.eval_path}: an evaluation reads one file or folder, once over: give one, without a "
            "weight"
        )
    path = Path(config.eval_path).expanduser()
    if is_token_folder(path):
        folder = TokenFolder.open(path)
        check_same_vocabulary(folder, training, "--eval_path")
        return folder
    return text_folder(config, path, training_vocabulary(config), "--eval_path")


def vocab_size(config: Any, folder: TokenFolder) -> int:
    """Return the size that the model gets: ``--vocab_size``, else that of the folder's vocabulary.

    Raises ``UsageError`` where what was asked for is smaller.
    """
    asked = getattr(config, "vocab_size", None)
    if asked is not None and asked < folder.vocab_size:
        raise UsageError(
            f"--vocab_size {asked} is smaller than the vocabulary of {folder.place}: give at least "
            f"{folder.vocab_size}, or leave it out"
        )
    return asked or folder.vocab_size


def training_vocabulary(config: Any) -> Vocabulary:
    """Return the tokenizer for raw text: ``--vocab``, else a token folder's, else that of ``--init_from``, else one
    that is trained on the text. Raises ``UsageError``.
    """
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
    from pipeloom.plugins.libraries.tokens.text_folders import own_vocabulary

    if config.vocab is not None:
        return Vocabulary(Path(config.vocab).expanduser())
    named = _named(config)
    for folder in _given(named).values():
        beside = Vocabulary.beside(folder.path)
        if beside is not None:
            return beside
    return _start(config) or own_vocabulary(config, [path for path, _ in named])


def check_same_vocabulary(folder: TokenFolder, other: TokenFolder, option: str) -> None:
    """Raise ``UsageError`` where the ids of two folders mean different tokens."""
    if folder.facts.vocabulary != other.facts.vocabulary:
        raise UsageError(
            f"{option}: {folder.place} and {other.place} have different vocabularies: their numbers mean different "
            "tokens; prepare them with the same one"
        )


def _named(config: Any) -> List[Tuple[Path, Optional[float]]]:
    from pipeloom.core.data.mixture import weighted_paths

    if config.text_path is None:
        return []
    named = [(Path(path).expanduser(), weight) for path, weight in weighted_paths(config.text_path, "--text_path")]
    paths = [path.resolve() for path, _ in named]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise UsageError(f"--text_path: {named[number][0]} is there twice; a weight makes more of it")
    return named


def _given(named: Sequence[Tuple[Path, Optional[float]]]) -> dict:
    """Return the token folders among what was named, by their paths."""
    from pipeloom.plugins.libraries.tokens.token_format import is_token_folder
    from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder

    return {path: TokenFolder.open(path) for path, _ in named if is_token_folder(path)}


def _start(config: Any) -> Optional[Vocabulary]:
    """Return the vocabulary of the model that training starts from, where it has one."""
    from pipeloom.plugins.libraries.huggingface.source import vocabulary_of

    start = getattr(config, "init_from", None)  # an option of models; their folders have the vocabulary with them
    return vocabulary_of(start) if start is not None else None


def _check_start(config: Any, folder: TokenFolder) -> None:
    start = _start(config) if config.vocab is None else None
    if start is not None and start.digest() != folder.facts.vocabulary:
        raise UsageError(
            f"--text_path: {folder.place} was made with another vocabulary than that of --init_from "
            f"{config.init_from}: make it again with 'prepare tokens --vocab {config.init_from}'; with --vocab you say "
            "that its tokens are meant"
        )
