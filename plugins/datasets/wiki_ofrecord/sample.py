"""The embedded sample: a pre-training set from text that every Python carries, built once and cached.

It lets ``--plugins bert,wiki_ofrecord`` train something real with nothing downloaded.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Union

from pipeloom.plugins.libraries.corpus import embedded_text
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
    identity = json.dumps([sorted(embedded_text.topics().items()), settings], sort_keys=True)
    return ensure_folder("sample", identity, lambda folder: _build(folder, settings), what="the embedded sample")


def sample_vocab_size(folder: Union[str, Path]) -> int:
    """The number of tokens in the ``vocab.txt`` of a sample."""
    return (Path(folder) / "vocab.txt").read_bytes().count(b"\n")


def _build(folder: Path, settings: Dict[str, int]) -> None:
    from pipeloom.plugins.libraries.text.tokenization import train_wordpiece

    documents = embedded_text.sample_documents()
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
