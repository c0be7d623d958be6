"""Small inputs of ``prepare pretraining``, its command line, and what came out of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeloom.plugins.libraries.corpus import embedded_text
from pipeloom.plugins.libraries.ofrecord.records import decode, index_part
from pipeloom.plugins.libraries.text.tokenization import train_wordpiece

#: No test waits for workers where it shows nothing.
HERE = ["--workers", "0", "--parts", "3", "--min_characters", "50"]


def records(folder: Path):
    for part in sorted(folder.glob("part-*")):
        data = part.read_bytes()
        for offset, length in index_part(part).tolist():
            yield decode(data[offset : offset + length])


def digest(folder: Path) -> str:
    return hashlib.md5(
        b"".join(path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir()))
    ).hexdigest()


def write_texts(folder: Path) -> Path:
    """Into ``folder`` the sentences of nine topics as JSON lines, thirteen others as files of a folder, and a
    vocabulary.
    """
    documents = embedded_text.sample_documents()[:21]
    train_wordpiece([" ".join(document) for document in documents], 800).save(folder / "vocab.txt")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in documents[:9]))
    (folder / "books").mkdir()
    for number, document in enumerate(documents[9:]):
        (folder / "books" / f"{number}.txt").write_text("\n".join([*document[:9], "", *document[9:]]))
    # The ends of its sentences depend on the language.
    (folder / "books" / "german.txt").write_text("Er kam am 3. Mai nach Rom. Am 4. Juni ging er. " * 4)
    return folder


def arguments(texts: Path, out: Path, *more: str, inputs=("a.jsonl", "books/*.txt")):
    given = [
        "--input",
        *(str(texts / name) for name in inputs),
        "--vocab",
        str(texts / "vocab.txt"),
        "--output",
        str(out),
    ]
    return ["prepare", "pretraining", *given, *HERE, "--seq_length", "64", "--max_predictions", "10", *more]
