"""Small SQuAD files for tests."""

from __future__ import annotations

import json
from pathlib import Path

#: What the paragraphs of ``squad`` are about.
CONTEXT = "In Paris Rome is praised; in Rome nobody speaks of it."


def qa(name, text="Paris", start=3, question="Where?", impossible=None):
    """A question with one answer; with ``impossible`` as SQuAD 2.0 has it."""
    entry = {"id": name, "question": question, "answers": [{"text": text, "answer_start": start}]}
    if impossible is not None:
        entry["is_impossible"] = impossible
    if impossible:
        entry["plausible_answers"], entry["answers"] = entry["answers"], []
    return entry


def squad(*paragraphs, version="1.1", context=CONTEXT):
    """The content of a file: an article whose paragraphs have these questions."""
    return {
        "version": version,
        "data": [{"title": "Towns", "paragraphs": [{"context": context, "qas": list(qas)} for qas in paragraphs]}],
    }


def write_json(path: Path, content) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_vocab(path: Path, *words) -> Path:
    """A vocabulary of the special tokens, ``words``, and every ASCII character, so that no word is unknown."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words,
        *characters,
        *("##" + character for character in characters),
    ]
    path.write_text("".join(token + "\n" for token in dict.fromkeys(tokens)), encoding="utf-8")
    return path
