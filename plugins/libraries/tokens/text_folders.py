"""Text as a token folder in the cache: made once for a text, a tokenizer and a way of reading."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.plugins.libraries.corpus import embedded_text
from pipeloom.plugins.libraries.corpus.documents import Document, ReadingSettings, SentenceDocument
from pipeloom.plugins.libraries.corpus.inputs import Input, find_inputs
from pipeloom.plugins.libraries.corpus.streams import BadInput
from pipeloom.plugins.libraries.corpus.text_arguments import require_text_libraries
from pipeloom.plugins.libraries.preparation.folders import ensure_folder, write_folder
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.own_vocabulary import VOCAB_SIZE, ensure_vocabulary
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder
from pipeloom.plugins.libraries.tokens.token_writing import ENDS, seal
from pipeloom.plugins.libraries.tokens.tokenizing import EncodingSettings, tokenize_documents

#: In the place of a path: the text that every Python carries, and what is held out from it.
EMBEDDED, HELD_OUT = "the embedded sample", "the held-out part of the embedded sample"
# Raised when the code makes other tokens of the same text.
_FORMAT = 1
_LANGUAGE = "en"
# Less text is turned into tokens here and now; more of it by all cores, and the user hears of it.
_LARGE = 8 << 20

#: What ``--text_path`` names, or one of the two above.
Place = Union[str, Path]


def text_folder(config: Any, place: Place, vocabulary: Vocabulary, option: str = "--text_path") -> TokenFolder:
    """Return the token folder of the cache for the text at ``place``, made where need be. Raises ``UsageError``."""
    inputs, identity, size = _documents(config, place, option)
    said = [_FORMAT, identity, vocabulary.digest(), _reading(config)]

    def fill(folder: Path) -> Dict[str, Any]:
        if size > _LARGE:
            print(f"pipeloom: {place} becomes tokens in the cache, once", file=sys.stderr, flush=True)
        work = folder / "work"
        work.mkdir()
        for name, content in vocabulary.beside_records().items():
            (folder / name).write_bytes(content)
        there = Vocabulary.beside(folder)
        assert there is not None  # it was written there
        settings = EncodingSettings(there.path, there.lowercase, _LANGUAGE)
        workers = len(os.sched_getaffinity(0)) if size > _LARGE else 0
        sources, left_out = tokenize_documents(folder, work, inputs, settings, workers)
        left_out += sum((source.counts for source in inputs if isinstance(source, _Said)), Counter())
        if not sum(documents for documents, _ in sources):
            raise UsageError(f"{option} {place}: there is no text in it")
        seal(folder, work / ENDS, there, str(place))
        shutil.rmtree(work)
        return {"kind": "tokens", "left_out": dict(left_out)}

    build = lambda folder: _made(lambda: write_folder(folder, fill))
    path = ensure_folder("tokens", json.dumps(said, sort_keys=True), build, f"the tokens of {place}", _is_whole)
    found = TokenFolder.open(path)
    found.place = place
    return found


def own_vocabulary(config: Any, paths: Sequence[Path]) -> Vocabulary:
    """Return the vocabulary that is trained on the text at ``paths``, of the embedded sample for none."""
    places: Sequence[Place] = paths or (EMBEDDED,)
    found = [_documents(config, place, "--text_path") for place in places]
    sources = [source for inputs, _, _ in found for source in inputs]
    identity = [_FORMAT, [said for _, said, _ in found], _reading(config)]
    size = getattr(config, "vocab_size", None) or VOCAB_SIZE
    return Vocabulary(_made(lambda: ensure_vocabulary(sources, identity, _LANGUAGE, size)))


def _documents(config: Any, place: Place, option: str) -> Tuple[List[Any], Any, int]:
    """Return the text at ``place`` as iterables of documents, what tells it from other text, and its size."""
    if isinstance(place, str):
        sources = embedded_text.held_out_sources() if place == HELD_OUT else {}
        said = json.dumps([place, sorted(embedded_text.topics().items()), sorted(sources.items())])
        return [_Embedded(place, sources)], hashlib.sha256(said.encode()).hexdigest(), 0
    settings = ReadingSettings(text_documents=config.text_documents, text_key=config.text_key, verbatim=True)
    inputs = find_inputs([str(place)], settings, option)
    identity, size = [source.identity() for source in inputs], sum(source.size for source in inputs)
    return [_Said(source, place, option) for source in inputs], identity, size


def _reading(config: Any) -> List[str]:
    return [config.text_documents, config.text_key, _LANGUAGE]


class _Embedded:
    """The documents of the text that every Python carries; they are made when they are asked for."""

    def __init__(self, place: str, sources: Dict[str, str]) -> None:
        self._place, self._sources = place, sources

    def __iter__(self) -> Iterator[Document]:
        found = (
            embedded_text.held_out_documents(self._sources)
            if self._place == HELD_OUT
            else embedded_text.sample_documents()
        )
        return (SentenceDocument(tuple(sentences)) for sentences in found)


class _Said:
    """The documents of an input; what is wrong with it is said as the options of a run have it."""

    def __init__(self, source: Input, place: Place, option: str) -> None:
        self._source, self._place, self._option = source, place, option
        self.counts = source.counts

    def __iter__(self) -> Iterator[Document]:
        try:
            yield from self._source
        except BadInput as error:
            raise UsageError(
                f"{self._option} {self._place}: {error.what}; mend it, or make a token folder of what can be read: "
                "'prepare tokens --bad_input skip'"
            ) from None


def _made(make: Callable[[], Any]) -> Any:
    """Return what ``make()`` does; says what to install where a library is missing."""
    try:
        return make()
    except ModuleNotFoundError:
        require_text_libraries()  # a dump of a wiki needs them, plain text does not
        raise


def _is_whole(folder: Path) -> bool:
    try:
        TokenFolder.open(folder)
    except (UsageError, RunError):
        return False
    return True
