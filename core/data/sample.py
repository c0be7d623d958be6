"""The embedded sample: a pre-training set from text that every Python carries, built once and cached.

``pydoc_data.topics`` holds the chapters of Python's language reference that ``help()`` shows: about 450 KB of
technical English. It lets ``--plugins bert,wiki_ofrecord`` train something real with nothing downloaded.
"""
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Set, Union

from pipeloom.core.errors import RunError, UsageError

# What decides the bytes besides the text; a change of any of it makes a new folder. Raise "format" when
# the code that makes text, vocabulary or examples changes what comes out.
_SETTINGS = {"format": 2, "vocab_size": 4096, "dupe_factor": 5, "seed": 20181011, "parts": 4}

_BUILDING = ".building-"  # prefix of the private folders in which samples are built
_STALE_SECONDS = 3600  # a build takes seconds: after an hour, whoever began that folder is dead
_LOCK_SECONDS = 60  # how long to wait for another process that builds


def ensure_sample(seq_length: int, max_predictions: int) -> Path:
    """The folder with the sample: ``part-0`` .. ``part-3``, ``vocab.txt``, ``meta.json``; built where need be.

    It lies in ``$PIPELOOM_CACHE``, else ``$XDG_CACHE_HOME/pipeloom``, else ``~/.cache/pipeloom``. The folder
    appears there complete or not at all, also when processes race or die; one whose files do not match their
    checksums is built again. Raises ``UsageError`` where the cache cannot be written or a size cannot be.
    """
    settings = {**_SETTINGS, "seq_length": seq_length, "max_predictions": max_predictions}
    identity = json.dumps([sorted(_topics().items()), settings], sort_keys=True)
    return ensure_folder("sample", identity, lambda folder: _build(folder, settings))


def ensure_folder(kind: str, identity: str, build: Callable[[Path], None]) -> Path:
    """The folder of the cache for what ``identity`` says in full; ``build(folder)`` makes it (with ``write_sample``) where need be."""
    root = cache_root()
    folder = root / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not _is_intact(folder):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _only_builder(root):
                if not _is_intact(folder):  # another process may have built it while this one waited
                    _remove_stale(root)
                    build(folder)
        except (OSError, RunError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot build the embedded sample in the cache {root}: {reason}; set PIPELOOM_CACHE "
                             "to a folder that can be written to and has 20 MB free") from error
    return folder


def sample_vocab_size(folder: Union[str, Path]) -> int:
    """The number of tokens in the ``vocab.txt`` of a sample."""
    return (Path(folder) / "vocab.txt").read_bytes().count(b"\n")


def sample_documents() -> List[List[str]]:
    """The text of the sample: one document per topic, each a list of sentences.

    Headings, code, grammar and tables are left out, and so is a paragraph that an earlier topic had:
    chapters include one another, and a "random" next sentence must not be the true one.
    """
    topics, seen = _topics(), set()
    documents = [sentences_of(topics[name], seen) for name in sorted(topics)]
    return [sentences for sentences in documents if sentences]


def sentences_of(text: str, seen: Set[str]) -> List[str]:
    """The English sentences of a text whose paragraphs are not in ``seen``, where they are added."""
    sentences: List[str] = []
    for paragraph in _paragraphs(text):
        if paragraph not in seen:
            seen.add(paragraph)
            sentences += filter(_is_prose, _SENTENCE_END.split(paragraph))
    return sentences


def _topics() -> Dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        raise UsageError("this Python has no pydoc_data.topics, the text of the embedded sample; "
                         "give a dataset with --ofrecord_path") from None
    return topics


# A line of one repeated sign: under a heading (the line above it is the heading), or of a table.
_RULE = re.compile(r"\s*([-=*~^#+|])\1{2,}[-=+|]*\s*$")
_ITEM = re.compile(r"(\*|-|\d+\.|\[\d+\])\s+")
_EMPHASIS = re.compile(r"\*+(\w[^*]*)\*+")
# A full stop, perhaps a closing quote or bracket, and a capital after it; not the one of "e.g.".
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"”’)]))(?<!e\.g\.)(?<!i\.e\.)(?<!cf\.)(?<!etc\.)"
                           r"\s+(?=[\"“‘(]?[A-Z])")
_PROSE_START = re.compile(r"[\"“‘(]?[A-Z]")
_PROSE_END = re.compile(r"[.!?:][\"”’)]?$")
_CODE = re.compile(r"::=|>>>|==|\s=\s|[|{}\\]|->|\.\.\.$")


def _paragraphs(text: str) -> Iterator[str]:
    """Runs of lines that belong together, each joined to one line; headings and rules are left out."""
    lines = text.split("\n") + [""]
    run: List[str] = []
    indent = 0
    for line, following in zip(lines, lines[1:] + [""]):
        content = line.strip()
        boundary = not content or _RULE.match(line) or _RULE.match(following)
        item = _ITEM.match(content)
        deeper = len(line) - len(line.lstrip()) > indent  # below a term, its definition
        if run and (boundary or item or deeper):
            joined = re.sub(r"(?<=\w-) (?=\w)", "", re.sub(r"\s+", " ", " ".join(run)))  # "left- hand" is one word
            yield _EMPHASIS.sub(r"\1", joined)
            run = []
        if not boundary:
            if not run:
                # The lines of a list item stand where its own text begins.
                indent = len(line) - len(line.lstrip()) + (item.end() if item else 0)
            run.append(content[item.end() :] if item else content)


def _is_prose(sentence: str) -> bool:
    """Whether this is an English sentence, as far as its shape tells; code and signatures are not."""
    if not _PROSE_START.match(sentence) or not _PROSE_END.search(sentence) or _CODE.search(sentence):
        return False
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 4 and letters >= 0.8 * len(sentence)


def _build(folder: Path, settings: Dict[str, int]) -> None:
    from pipeloom.core.data.tokenization import train_wordpiece

    documents = sample_documents()
    tokenizer = train_wordpiece([" ".join(document) for document in documents], settings["vocab_size"],
                                min_frequency=1)  # the text is short; with 2 it has no 4096 pieces
    write_sample(folder, settings, documents, tokenizer)


def write_sample(folder: Path, settings: Dict[str, int], documents: List[List[str]], tokenizer) -> None:
    """Make the examples of ``documents``, and ``folder`` with them, at once."""
    # Here and not above: a process that finds the sample ready should not wait for these imports.
    from pipeloom.core.data.examples import ExampleSettings
    from pipeloom.core.data.ofrecord import sync_folder
    from pipeloom.core.prepare.build import Recipe, make_parts, tokenize
    from pipeloom.core.prepare.documents import SentenceDocument
    from pipeloom.core.prepare.sentences import TextSettings

    examples = ExampleSettings(seq_length=settings["seq_length"], max_predictions=settings["max_predictions"])
    private = folder.with_name(f"{_BUILDING}{uuid.uuid4().hex}")
    work = private / "work"
    work.mkdir(parents=True)
    try:
        tokenizer.save(private / "vocab.txt")
        text = TextSettings(private / "vocab.txt", min_characters=0, longest_sentence=examples.longest)
        sources, _ = tokenize(work, [[SentenceDocument(tuple(document)) for document in documents]], text)
        recipe = Recipe.plan(work, sources, text, examples, settings["dupe_factor"], None, settings["seed"])
        counts = make_parts(private, settings["parts"], recipe)
        shutil.rmtree(work)
        files = {path.name: _checksum(path) for path in sorted(private.iterdir())}
        meta = {"settings": settings, "num_samples": counts["samples"], "vocab_size": len(tokenizer), "files": files}
        (private / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        for name in ("vocab.txt", "meta.json"):
            with open(private / name, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(private)
        _install(private, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _install(private: Path, folder: Path) -> None:
    """Renames a finished folder to its name, at once. A broken one that stands there is moved away first."""
    if folder.exists():
        broken = folder.with_name(f"{_BUILDING}{uuid.uuid4().hex}")
        os.rename(folder, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(private, folder)
    except OSError:
        if not _is_intact(folder):  # else another process, which the lock did not keep out, was faster
            raise


def _checksum(path: Path) -> Dict[str, int]:
    data = path.read_bytes()
    return {"bytes": len(data), "crc32": zlib.crc32(data)}


def _is_intact(folder: Path) -> bool:
    """Whether the sample is there, with just the parts that its meta.json lists and their checksums."""
    try:
        files = json.loads((folder / "meta.json").read_bytes())["files"]
        listed = {path.name for path in folder.iterdir()} - {"meta.json"}
        return listed == set(files) and all(_checksum(folder / name) == files[name] for name in files)
    except (OSError, ValueError, LookupError, TypeError):  # absent, unreadable, or not the JSON that was written
        return False


def _remove_stale(root: Path) -> None:
    """Removes what builds left behind that were killed."""
    for private in root.glob(f"{_BUILDING}*"):
        try:
            if time.time() - private.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(private, ignore_errors=True)
        except OSError:  # it went away meanwhile
            pass


@contextmanager
def _only_builder(root: Path) -> Iterator[None]:
    """Lets one process at a time build in this cache; the others wait and then find it ready.

    Only saves work: correctness rests on the rename. So after a minute, or on a file system without
    locks, the caller just goes on. The kernel frees the lock of a process that dies.
    """
    try:
        lock = open(root / ".lock", "ab")
    except OSError:  # of another user, perhaps; if nothing can be written here, building will say so
        yield
        return
    with lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield


def cache_root() -> Path:
    """The folder of the cache, which need not exist yet. Raises ``UsageError`` where there is no home folder for it."""
    chosen = os.environ.get("PIPELOOM_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "pipeloom"
    try:
        return Path.home() / ".cache" / "pipeloom"
    except RuntimeError:
        raise UsageError("there is no home folder for the embedded sample; set PIPELOOM_CACHE to a folder") from None
