"""The vocabulary of text for which none is given: a byte-level BPE that is trained on the text itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Sequence

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.preparation.folders import ensure_folder, write_folder

#: The most tokens that it has where ``--vocab_size`` does not say.
VOCAB_SIZE = 8192
#: Of the text so many characters are read for it, of each of several sources the same share.
_CHARACTERS = 10_000_000
# What decides the tokens besides the text.
_SETTINGS = {"format": 1, "min_frequency": 2, "characters": _CHARACTERS}


def ensure_vocabulary(sources: Sequence[Any], identity: Any, language: str, vocab_size: int) -> Path:
    """Return the folder of the cache with ``vocab.json`` and ``merges.txt`` for ``sources``, made where need be.

    ``sources``: iterables of documents; ``identity``: what tells them from others. It has the special tokens of GPT-2
    and of RoBERTa. Raises ``UsageError`` where ``vocab_size`` does not hold the bytes, or there is no text.
    """
    settings = {**_SETTINGS, "vocab_size": vocab_size, "language": language}

    def fill(folder: Path) -> Dict[str, Any]:
        from pipeloom.plugins.libraries.text.byte_bpe import files_of, train_byte_bpe
        from pipeloom.plugins.libraries.text.long_runs import without_long_runs

        share = _CHARACTERS // len(sources)
        texts = (without_long_runs(text) for source in sources for text in _first_texts(source, language, share))
        tokenizer = train_byte_bpe(texts, vocab_size, _SETTINGS["min_frequency"])
        for name, content in files_of(tokenizer).items():
            (folder / name).write_bytes(content)
        return {"settings": settings, "vocab_size": tokenizer.get_vocab_size()}

    return ensure_folder(
        "vocabulary",
        json.dumps([identity, settings], sort_keys=True),
        lambda folder: write_folder(folder, fill),
        what="the vocabulary",
    )


def _first_texts(documents: Iterable[Any], language: str, characters: int) -> Iterator[str]:
    """Yield the text of documents until that is about so many characters."""
    from pipeloom.plugins.libraries.corpus.document_text import DocumentText

    text_of, left = DocumentText(language, 0), characters
    text = ""
    for document in documents:
        text = text_of(document, Counter())[:left]
        if text:
            yield text
            left -= len(text)
        if left <= 0:
            return
    if left == characters:
        raise UsageError("there is no text to make a vocabulary of")
