"""What a dataset is to the rest of pipeloom: a length, named fields, random access by index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.interleaving import Mixture
from pipeloom.core.contract.tokenizer import TokenizerSource


@dataclass(frozen=True)
class Field:
    """One named array of a sample.

    ``shape`` is that of one sample (no batch dimension), ``dtype`` is ``"int32"`` or ``"float32"``. Values must lie in
    ``low <= value < high`` where the bounds are given, and those of a float field be finite: an engine kernel that gets
    an index out of range kills the process, and a NaN ends in every weight, so a dataset checks what it reads.
    """

    name: str
    shape: Tuple[int, ...]
    dtype: str
    low: Optional[int] = None
    high: Optional[int] = None


class Scorer:
    """What turns a model's outputs for the samples of a dataset into figures that no sum over samples gives, such as F1
    of answers.
    """

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """Take the outputs ``Dataset.scored`` of the samples ``indices``, each ``(len(indices), ...)`` in this order.

        In any order of samples; of one that comes again the last outputs count.
        """
        raise NotImplementedError("abstract")

    def finish(self, folder: Optional[Path]) -> Dict[str, float]:
        """The figures by name, over the samples that were added, of which there is one at least.

        Files that tell more are written into ``folder``, which exists, and none without one. Raises ``RunError``.
        """
        raise NotImplementedError("abstract")


class Dataset:
    """Base class of datasets. Subclasses set ``task`` and ``fields`` and implement ``__len__`` and ``read``."""

    #: The task whose examples these are, for instance ``"pretraining"``.
    task: str
    #: The fields of a sample, by name.
    fields: Dict[str, Field]
    #: Size of the vocabulary that the token ids belong to.
    vocab_size: int
    #: The outputs of the model that ``scorer`` wants, by name.
    scored: Tuple[str, ...] = ()
    #: The figures that ``scorer`` makes, where they are not all that the task names; the first is the default of
    #: ``--best_metric``.
    figures: Tuple[str, ...] = ()
    #: Of training data: options that the samples decide, by name, such as the classes that there are. The model is
    #: built with them, and checkpoints carry them.
    settings: Mapping[str, Any] = MappingProxyType({})
    #: Of training data: whether the options name held-out samples too; these are evaluated after the last step, also
    #: without ``--eval_every``.
    held_out: bool = False
    #: Whether ``scorer`` has something to compare these outputs with; without, it leaves files and gives no figures.
    has_references: bool = True
    #: How training interleaves the sources that the samples come from; ``None``: all samples are one source.
    mixture: Optional[Mixture] = None
    #: What turns text into the token ids, where that is known; checkpoints carry it.
    vocabulary: Optional[TokenizerSource] = None

    def __len__(self) -> int:
        raise NotImplementedError("abstract")

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        """The fields ``names`` of the samples ``indices``, each an array ``(len(indices), *field.shape)``.

        Raises ``RunError`` naming the file, the record and the field where the data is not as declared.
        """
        raise NotImplementedError("abstract")

    def read_epochs(self, indices: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        """The same for training, which goes over the samples again and again: ``epochs[k]`` is the pass, from 0, that
        ``indices[k]`` is of; with a mixture, the pass over its source.

        By default a sample is always the same. One that differs each time (masked words, augmented pictures) must
        depend on the sample, the epoch and the run's seed alone: then every layout and a resumed run read the same.
        Held-out samples are read by ``read``.
        """
        return self.read(indices, names)

    def describe(self) -> str:
        """One phrase for the log: where the samples come from and how many there are."""
        raise NotImplementedError("abstract")

    def scorer(self) -> Optional[Scorer]:
        """A new scorer for one evaluation, or ``None`` where sums over the samples say everything."""
        return None

    def fingerprint(self) -> str:
        """A hash that is the same on all nodes that have these very samples, wherever they lie there.

        This default knows the facts that every dataset has: number of samples, task, fields, vocabulary. One that
        reads files should add what tells their contents. Quick: it is asked at each start.
        """
        fields = sorted((field.name, field.shape, field.dtype, field.low, field.high) for field in self.fields.values())
        return hashlib.sha256(repr((len(self), self.task, fields, self.vocab_size)).encode()).hexdigest()


#: What a dataset says of itself by attributes.
_FACTS = (
    *("task", "fields", "vocab_size", "scored", "figures", "settings"),
    *("held_out", "has_references", "mixture", "vocabulary"),
)


class WrappedDataset(Dataset):
    """A dataset that answers as another one does, but for what a subclass changes: of what is read, ``read`` and
    ``read_epochs``."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        for name in _FACTS:
            setattr(self, name, getattr(dataset, name))

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._dataset.read(indices, names)

    def read_epochs(self, indices: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._dataset.read_epochs(indices, epochs, names)

    def scorer(self) -> Optional[Scorer]:
        return self._dataset.scorer()

    def describe(self) -> str:
        return self._dataset.describe()

    def fingerprint(self) -> str:
        return self._dataset.fingerprint()


class FirstSamples(WrappedDataset):
    """The first ``count`` samples of a dataset that has as many."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        super().__init__(dataset)
        self._count, self.mixture = count, None

    def __len__(self) -> int:
        return self._count

    def describe(self) -> str:
        return f"the first {self._count} of {self._dataset.describe()}"

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self._count} of {self._dataset.fingerprint()}".encode()).hexdigest()
