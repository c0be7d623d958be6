"""The ``--input`` of a preparation: files and patterns, perhaps with weights, as sources of documents."""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, similar_path
from pipeloom.core.base.files import sample_of_file
from pipeloom.core.data.mixture import check_weights, path_and_weight
from pipeloom.plugins.libraries.corpus.documents import Document, DocumentReader, ReadingSettings
from pipeloom.plugins.libraries.corpus.formats import NoText

_SAMPLE_BYTES = 64 * 1024


class Input:
    """The documents of some files, in their order; ``weight`` is the share of what is made that shall come from them,
    if the user said one.

    ``counts`` says, of all that was read, what was left out; ``bytes_read`` of ``size`` how far the reading came.
    """

    def __init__(self, files: Sequence[Path], weight: Optional[float] = None) -> None:
        self.files, self.weight = list(files), weight
        self.counts: Counter = Counter()
        self.settings = ReadingSettings()
        self._sizes = [file.stat().st_size for file in files]
        self._done = 0
        self._reader: Optional[DocumentReader] = None

    @property
    def size(self) -> int:
        return sum(self._sizes)

    @property
    def bytes_read(self) -> int:
        return self._done + (self._reader.bytes_read if self._reader is not None else 0)

    def __iter__(self) -> Iterator[Document]:
        for file, size in zip(self.files, self._sizes):
            self._reader = DocumentReader(file, self.settings, self.counts)
            yield from self._reader
            self._reader = None
            self._done += size

    def identity(self) -> List[Tuple[str, int, str]]:
        """Name, size and sampled content of each file: what tells whether it is the same input."""
        return [(file.name, size, sample_of_file(file, _SAMPLE_BYTES)) for file, size in zip(self.files, self._sizes)]


def find_inputs(arguments: Sequence[str], settings: ReadingSettings, option: str = "--input") -> List[Input]:
    """The sources that ``option`` names: with weights (``wiki.xml.bz2:0.7``) one for each argument, without one for
    each folder.

    Of a folder all files are read, those in its folders too, in the order of their names. Weights are scaled so that
    they sum up to 1. Raises ``UsageError`` for what is not there, is there twice, weighs nothing, or is no text (unless
    ``settings`` skip that).
    """
    named = [path_and_weight(argument, option) for argument in arguments]
    check_weights(named, option, "a:0.7 b:0.3")
    found = [(files, weight) for files, weight in ((_files(path, option), weight) for path, weight in named)]
    seen: Dict[Path, Path] = {}
    for file in (file for files, _ in found for file in files):
        if seen.setdefault(file.resolve(), file) is not file:
            raise UsageError(f"{option}: {file} is there twice; --dupe_factor or a weight makes more of it")
    if named[0][1] is None:
        folders: Dict[Path, List[Path]] = {}
        for (path, _), (files, _) in zip(named, found):
            whole = Path(path).expanduser()
            for file in files:
                # A folder that was named is one, whatever folders there are in it.
                folders.setdefault(whole if whole.is_dir() else file.parent, []).append(file)
        inputs = [Input(files) for files in folders.values()]
    else:
        total = sum(weight or 0.0 for _, weight in named)
        inputs = [Input(files, (weight or 0.0) / total) for files, weight in found]
    for source in inputs:
        source.settings = settings
    _check_formats([file for source in inputs for file in source.files], settings, option)
    return inputs


def _check_formats(files: Sequence[Path], settings: ReadingSettings, option: str) -> None:
    """Before hours of work: whether each file can be opened, and is of a kind that is read."""
    bad: List[NoText] = []
    for file in files:
        try:
            DocumentReader(file, settings, Counter()).check()
        except NoText as error:
            bad.append(error)
    if bad and not settings.skip_bad:
        others = f" ({len(bad) - 1} other files are no text either)" if len(bad) > 1 else ""
        advice = "" if "--bad_input" in str(bad[0]) else "; --bad_input skip leaves such files out"
        raise UsageError(f"{option}: {bad[0]}{advice}{others}")


def _files(pattern: str, option: str) -> List[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and not any(name.startswith((".", "_")) for name in file.relative_to(path).parts)
        )
        if not files:
            raise UsageError(f"{option} {pattern} is a folder without files")
        return files
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(name)]
    if not files:
        raise UsageError(f"{option}: no file {pattern}{similar_path(path)}")
    return files
