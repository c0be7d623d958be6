"""Held-out samples for the embedded sample: other text that every Python carries, in the same vocabulary.

The docstrings of a few modules of the standard library: English of the same kind, and no sentence of it is in what is
trained on, so the training set stays whole.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeloom.plugins.datasets.wiki_ofrecord import sample
from pipeloom.plugins.libraries.corpus.embedded_text import held_out_documents, held_out_sources
from pipeloom.plugins.libraries.preparation.folders import ensure_folder

_SETTINGS = {"format": 2, "dupe_factor": 1, "seed": 20181012, "parts": 1}


def ensure_held_out(seq_length: int, max_predictions: int) -> Path:
    """The folder with the samples: ``part-0``, ``vocab.txt``, ``meta.json``; built and kept as ``sample.ensure_sample``
    does it.
    """
    training = sample.ensure_sample(seq_length, max_predictions)
    sources = held_out_sources()
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
