"""English text that every Python carries, to train and to evaluate something real with nothing downloaded.

``pydoc_data.topics`` holds the chapters of Python's language reference that ``help()`` shows: about 450 KB of
technical English. Held out are the docstrings of a few modules of the standard library: English of the same kind, and
no sentence of it is in what is trained on, so the training text stays whole.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path
from typing import Dict, Iterator, List, Set

from pipeloom.core.base.errors import UsageError

#: Modules about the language itself, as the training text is; each is a held-out document.
MODULES = (
    "_collections_abc",
    "argparse",
    "ast",
    "asyncio/futures",
    "bdb",
    "collections/__init__",
    "configparser",
    "contextlib",
    "dataclasses",
    "doctest",
    "enum",
    "functools",
    "importlib/_bootstrap",
    "inspect",
    "pkgutil",
    "re",
    "subprocess",
    "symtable",
    "tempfile",
    "traceback",
    "typing",
    "unittest/case",
    "unittest/mock",
)
# Code in the training text stands in double quotes, in docstrings in these.
_QUOTED = re.compile(r"``([^`]+)``|`([^`'\n]+)[`']|(?<!\w)'([^'\n]+)'(?!\w)")


def sample_documents() -> List[List[str]]:
    """The text of the sample: one document per topic, each a list of sentences.

    Headings, code, grammar and tables are left out, and so is a paragraph that an earlier topic had:
    chapters include one another, and a "random" next sentence must not be the true one.
    """
    chapters = topics()
    seen: Set[str] = set()
    documents = [sentences_of(chapters[name], seen) for name in sorted(chapters)]
    return [sentences for sentences in documents if sentences]


def sentences_of(text: str, seen: Set[str]) -> List[str]:
    """The English sentences of a text whose paragraphs are not in ``seen``, where they are added."""
    sentences: List[str] = []
    for paragraph in _paragraphs(text):
        if paragraph not in seen:
            seen.add(paragraph)
            sentences += filter(_is_prose, _SENTENCE_END.split(paragraph))
    return sentences


def topics() -> Dict[str, str]:
    """Return the chapters by their names. Raises ``UsageError`` where this Python has none."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        raise UsageError(
            "this Python has no pydoc_data.topics, the text of the embedded sample; give data of your "
            "own (--ofrecord_path, --text_path)"
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


def held_out_documents(sources: Dict[str, str]) -> List[List[str]]:
    """One document for each module with its sentences, without those that are in the training text."""
    trained = {sentence for document in sample_documents() for sentence in document}
    seen: Set[str] = set()
    documents = [
        [sentence for text in docstrings(source) for sentence in sentences_of(text, seen) if sentence not in trained]
        for source in sources.values()
    ]
    return [sentences for sentences in documents if sentences]


def docstrings(source: str) -> List[str]:
    """Return the docstrings of a module, with code in double quotes as the training text has it."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [_QUOTED.sub(lambda match: f'"{match[match.lastindex or 0]}"', text) for text in found if text]


def held_out_sources() -> Dict[str, str]:
    """Return the sources of the modules by their names. Raises ``UsageError`` where this Python lacks one."""
    library = Path(sysconfig.get_paths()["stdlib"])
    try:
        return {name: (library / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    except OSError as error:
        raise UsageError(
            f"this Python has no {error.filename}, whose docstrings are the held-out text of the embedded sample; "
            "give held-out data with --eval_path"
        ) from None
