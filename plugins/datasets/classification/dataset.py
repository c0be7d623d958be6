"""Texts with a class or a number each as a dataset."""

from __future__ import annotations

import hashlib
from typing import Dict, List, Optional, Sequence

import numpy as np

from pipeloom.core.base.errors import UsageError, did_you_mean, shown
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.plugins.datasets.classification.encoded import EncodedTexts
from pipeloom.plugins.libraries.classification.framing import input_fields, stack
from pipeloom.plugins.libraries.classification.label_scorer import LOGITS, LabelScorer
from pipeloom.plugins.libraries.classification.labels import number_of
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary


class LabelledDataset(Dataset):
    """The rows of one file or of several, one behind the other.

    ``classes``: their names by number, ``None`` for a regression. ``figures``: what an evaluation measures. Raises
    ``UsageError`` for a label that is no class or no number, with its line.
    """

    task = "classification"

    def __init__(
        self,
        parts: Sequence[EncodedTexts],
        classes: Optional[Sequence[str]],
        seq_length: int,
        vocab_size: int,
        figures: Sequence[str] = (),
    ) -> None:
        self._parts, self._classes, self._seq_length = list(parts), classes, seq_length
        self.vocab_size, self.figures = vocab_size, tuple(figures)
        self._starts = np.cumsum([0, *map(len, parts)])
        self.fields = input_fields(seq_length, vocab_size)
        self.has_references = all(part.has_labels for part in parts)
        self.scored = (LOGITS,) if figures else ()
        if classes is None:
            self.settings = {"regression": True, "labels": None}
        else:
            self.settings = {"regression": False, "labels": list(classes)}
        if self.has_references:
            self._wanted = np.concatenate([_wanted(part, classes) for part in parts]).reshape(-1, 1)
            name = "targets" if classes is None else "labels"
            bounds = () if classes is None else (0, len(classes))
            self.fields[name] = Field(name, (1,), str(self._wanted.dtype), *bounds)
        elif any(part.has_labels for part in parts):
            bare = next(part for part in parts if not part.has_labels)
            raise UsageError(f"{bare.source} has no labels, and others have: give it alone, to be predicted")
        self.vocabulary = Vocabulary.beside(parts[0].path, parts[0].meta["lowercase"])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        """As of ``Dataset``."""
        places = np.asarray(indices, np.int64)
        found: Dict[str, np.ndarray] = {}
        if any(name in ("input_ids", "input_mask", "segment_ids") for name in names):
            owners = np.searchsorted(self._starts, places, side="right") - 1
            texts = [self._parts[owner].texts(int(place - self._starts[owner])) for owner, place in zip(owners, places)]
            found = stack(self._parts[0].frame, texts, self._seq_length)
        return {name: found[name] if name in found else self._wanted[places] for name in names}

    def scorer(self) -> Optional[LabelScorer]:
        """For evaluation: the figures that were asked for."""
        if not self.scored:
            return None
        rows = np.concatenate([part.numbers for part in self._parts])
        wanted = self._wanted[:, 0] if self.has_references else None
        return LabelScorer(rows, self._classes, wanted, self.figures)

    def describe(self) -> str:
        notes = [note for part in self._parts for note in part.meta["notes"]]
        cut = sum(part.longer_than(self._seq_length) for part in self._parts)
        if cut:
            notes.append(f"{cut} are longer than {self._seq_length} tokens and cut")
        sources = ", ".join(f"{part.source} ({part.meta['columns']})" for part in self._parts)
        what = "labels" if not self.has_references else "numbers" if self._classes is None else "classes"
        labels = f"{len(self._classes)} classes" if self._classes is not None and self.has_references else what
        return f"{len(self)} texts with {'no ' if what == 'labels' else ''}{labels} in {sources}" + "".join(
            f"; {note}" for note in notes
        )

    def fingerprint(self) -> str:
        """That of the folders, whose meta.json has a checksum of each file."""
        metas = [hashlib.sha256((part.path / "meta.json").read_bytes()).hexdigest() for part in self._parts]
        return hashlib.sha256(repr((metas, self._classes, self._seq_length)).encode()).hexdigest()


def _wanted(part: EncodedTexts, classes: Optional[Sequence[str]]) -> np.ndarray:
    """The number of the class of each row, int32, or its value, float32."""
    if classes is None:
        values = [number_of(label) for label in part.labels]
        _check(part, [value is None for value in values], "which is no finite number: --regression takes numbers")
        return part.values(values, np.float32)
    numbers = {name: number for number, name in enumerate(classes)}
    known = [numbers.get(label, -1) for label in part.labels]
    unknown = [label for label, number in zip(part.labels, known) if number < 0]
    if unknown:
        listed = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        others = f"; {len(unknown) - 1} others are unknown too" if len(unknown) > 1 else ""
        says = f"which is no class{did_you_mean(unknown[0], classes)}: there are {listed}{others}"
        _check(part, [number < 0 for number in known], says)
    return part.values(known, np.int32)


def _check(part: EncodedTexts, bad: List[bool], says: str) -> None:
    """Raise ``UsageError`` for the first row whose label is one of the ``bad`` ones."""
    if any(bad):
        row = int(np.flatnonzero(part.values(bad, bool))[0])
        raise UsageError(f"{part.source}: line {part.lines[row]} has the label {shown(part.label_of(row))}, {says}")
