"""Held-out samples for the embedded sample: other text that every Python carries, in the same vocabulary.

The docstrings of a few modules of the standard library: English of the same kind, and no sentence of it is in what is
trained on, so the training set stays whole.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sysconfig
from pathlib import Path
from typing import Dict, List, Set

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.datasets.wiki_ofrecord import sample
from pipeloom.plugins.libraries.preparation.folders import ensure_folder

# Modules about the language itself, as the training text is; each is a document.
_MODULES = (
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
_SETTINGS = {"format": 2, "dupe_factor": 1, "seed": 20181012, "parts": 1}


def ensure_held_out(seq_length: int, max_predictions: int) -> Path:
    """The folder with the samples: ``part-0``, ``vocab.txt``, ``meta.json``; built and kept as ``sample.ensure_sample``
    does it.
    """
    training = sample.ensure_sample(seq_length, max_predictions)
    sources = _sources()
    settings = {**_SETTINGS, "seq_length": seq_length, "max_predictions": max_predictions}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sources.items()}

    def build(folder: Path) -> None:
        from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

        sample.write_sample(
            folder, settings, held_out_documents(sources), WordPieceTokenizer.load(training / "vocab.txt")
        )

    # The name of the training sample says all of its vocabulary.
    return ensure_folder(
        "held-out", json.dumps([digests, settings, training.name], sort_keys=True), build, what="the embedded sample"
    )


def held_out_documents(sources: Dict[str, str]) -> List[List[str]]:
    """One document for each module with its sentences, without those that are in the training text."""
    trained = {sentence for document in sample.sample_documents() for sentence in document}
    seen: Set[str] = set()
    documents = [
        [
            sentence
            for text in _docstrings(source)
            for sentence in sample.sentences_of(text, seen)
            if sentence not in trained
        ]
        for source in sources.values()
    ]
    return [sentences for sentences in documents if sentences]


def _docstrings(source: str) -> List[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [_QUOTED.sub(lambda match: f'"{match[match.lastindex or 0]}"', text) for text in found if text]


def _sources() -> Dict[str, str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    try:
        return {name: (library / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
    except OSError as error:
        raise UsageError(
            f"this Python has no {error.filename}, whose docstrings are the held-out text of the embedded sample; "
            "give held-out records with --eval_path"
        ) from None
