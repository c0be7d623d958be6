"""The embedded sample: a pre-training set from text that every Python carries, built once and cached.

``pydoc_data.topics`` holds the chapters of Python's language reference that ``help()`` shows: about 450 KB of
technical English. It lets ``--plugins bert,wiki_ofrecord`` train something real with nothing downloaded.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Union

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.preparation.folders import ensure_folder, write_folder

# What decides the bytes besides the text; a change of any of it makes a new folder. Raise "format" when
# the code that makes text, vocabulary or examples changes what comes out.
_SETTINGS = {"format": 2, "vocab_size": 4096, "dupe_factor": 5, "seed": 20181011, "parts": 4}


def ensure_sample(seq_length: int, max_predictions: int) -> Path:
    """The folder with the sample: ``part-0`` .. ``part-3``, ``vocab.txt``, ``meta.json``; built where need be.

    It lies in ``$PIPELOOM_CACHE``, else ``$XDG_CACHE_HOME/pipeloom``, else ``~/.cache/pipeloom``. The folder
    appears there complete or not at all, also when processes race or die; one whose files do not match their
    checksums is built again. Raises ``UsageError`` where the cache cannot be written or a size cannot be.
    """
    settings = {**_SETTINGS, "seq_length": seq_length, "max_predictions": max_predictions}
    identity = json.dumps([sorted(_topics().items()), settings], sort_keys=True)
    return ensure_folder("sample", identity, lambda folder: _build(folder, settings), what="the embedded sample")


def sample_vocab_size(folder: Union[str, Path]) -> int:
    """The number of tokens in the ``vocab.txt`` of a sample."""
    return (Path(folder) / "vocab.txt").read_bytes().count(b"\n")


def sample_documents() -> List[List[str]]:
    """The text of the sample: one document per topic, each a list of sentences.

    Headings, code, grammar and tables are left out, and so is a paragraph that an earlier topic had:
    chapters include one another, and a "random" next sentence must not be the true one.
    """
    topics = _topics()
    seen: Set[str] = set()
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
        raise UsageError(
            "this Python has no pydoc_data.topics, the text of the embedded sample; give a dataset with --ofrecord_path"
        ) from None
    return topics


# A line of one repeated sign: under a heading (the line above it is the heading), or of a table.
_RULE = re.compile(r"\s*([-=*~^#+|])\1{2,}[-=+|]*\s*$")
_ITEM = re.compile(r"(\*|-|\d+\.|\[\d+\])\s+")
_EMPHASIS = re.compile(r"\*+(\w[^*]*)\*+")
# A full stop, perhaps a closing quote or bracket, and a capital after it; not the one of "e.g.".
_SENTENCE_END = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"”’)]))(?<!e\.g\.)(?<!i\.e\.)(?<!cf\.)(?<!etc\.)"
    r"\s+(?=[\"“‘(]?[A-Z])"
)
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
    from pipeloom.plugins.libraries.text.tokenization import train_wordpiece

    documents = sample_documents()
    tokenizer = train_wordpiece(
        [" ".join(document) for document in documents], settings["vocab_size"], min_frequency=1
    )  # the text is short; with 2 it has no 4096 pieces
    write_sample(folder, settings, documents, tokenizer)


def write_sample(folder: Path, settings: Dict[str, int], documents: List[List[str]], tokenizer) -> None:
    """Make the examples of ``documents``, and ``folder`` with them, at once."""
    # Here and not above: a process that finds the sample ready should not wait for these imports.
    from pipeloom.plugins.datasets.wiki_ofrecord.build import Recipe, make_parts, tokenize
    from pipeloom.plugins.datasets.wiki_ofrecord.examples import ExampleSettings
    from pipeloom.plugins.libraries.corpus.documents import SentenceDocument
    from pipeloom.plugins.libraries.corpus.sentences import TextSettings
    from pipeloom.plugins.libraries.ofrecord.index import make_index

    examples = ExampleSettings(seq_length=settings["seq_length"], max_predictions=settings["max_predictions"])
    inputs = [[SentenceDocument(tuple(document)) for document in documents]]

    def fill(private: Path) -> Dict[str, Any]:
        work = private / "work"
        work.mkdir()
        tokenizer.save(private / "vocab.txt")
        text = TextSettings(private / "vocab.txt", min_characters=0, longest_sentence=examples.longest)
        sources, _ = tokenize(work, inputs, text)
        recipe = Recipe.plan(work, sources, text, examples, settings["dupe_factor"], None, settings["seed"])
        counts = make_parts(private, settings["parts"], recipe)
        shutil.rmtree(work)
        make_index(private)
        return {"settings": settings, "num_samples": counts["samples"], "vocab_size": len(tokenizer)}

    write_folder(folder, fill)
