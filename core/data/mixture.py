"""Several datasets in one: what ``--ofrecord_path a:0.7,b:0.3`` names, and the dataset that it is."""

from __future__ import annotations

import hashlib
import math
import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.dataset import Dataset
from pipeloom.core.contract.interleaving import Mixture
from pipeloom.core.data.order import LONGEST_PATTERN, shares_of


class MixedDataset(Dataset):
    """Datasets of the same fields, task and vocabulary, one behind the other.

    With ``weights`` (above 0, of any sum) training takes its samples from them in these shares, evenly everywhere, and
    passes over each as often as that needs: an epoch is then as many samples as all of them have together. Without,
    they are one set of samples: in an epoch each occurs once. Raises ``UsageError`` where they do not go together.
    """

    def __init__(self, datasets: Sequence[Dataset], weights: Optional[Sequence[float]] = None) -> None:
        first = datasets[0]
        for other in datasets[1:]:
            for what in ("task", "vocab_size", "fields", "settings"):
                if getattr(other, what) != getattr(first, what):
                    raise UsageError(
                        f"the {what} of '{other.describe()}' is not that of '{first.describe()}': such sets cannot be "
                        f"mixed"
                    )
        self.task, self.fields, self.vocab_size = first.task, first.fields, first.vocab_size
        self.settings = first.settings
        self.vocabulary = next((dataset.vocabulary for dataset in datasets if dataset.vocabulary is not None), None)
        self.datasets = list(datasets)
        sizes = [len(dataset) for dataset in datasets]
        # Dataset k has the samples self._starts[k] <= i < self._starts[k + 1].
        self._starts = np.cumsum([0, *sizes])
        if weights is not None:
            shares = shares_of(weights)
            for dataset, weight, share in zip(datasets, weights, shares):
                if not share:
                    raise UsageError(
                        f"the weight {weight:g} of '{dataset.describe()}' is less than one part in {LONGEST_PATTERN} "
                        f"of the "
                        "mixture: make it larger, or leave that out"
                    )
            self.mixture = Mixture(tuple(sizes), tuple(shares))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._read(indices, names, lambda dataset, own, rows: dataset.read(own, names))

    def read_epochs(self, indices: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        passes: Any = np.asarray(epochs, dtype=np.int64)
        return self._read(indices, names, lambda dataset, own, rows: dataset.read_epochs(own, passes[rows], names))

    def _read(
        self, indices: Sequence[int], names: Sequence[str], read: Callable[[Dataset, Any, np.ndarray], Dict]
    ) -> Dict[str, np.ndarray]:
        """Put together what ``read(dataset, own indices, rows of the batch)`` gives for each dataset."""
        places = np.asarray(indices, dtype=np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"samples {places.min()} to {places.max()} of {len(self)}")
        batch = {name: np.empty((len(places), *self.fields[name].shape), self.fields[name].dtype) for name in names}
        owners = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(owners):
            rows = owners == number
            own: Any = places[rows] - self._starts[number]
            for name, value in read(self.datasets[number], own, rows).items():
                batch[name][rows] = value
        return batch

    def describe(self) -> str:
        parts = [dataset.describe() for dataset in self.datasets]
        if self.mixture is None:
            return f"{len(self)} samples: " + ", ".join(parts)
        whole = sum(self.mixture.shares)
        return "a mixture of " + ", ".join(
            f"{100 * share / whole:g} % from {part}" for share, part in zip(self.mixture.shares, parts)
        )

    def fingerprint(self) -> str:
        shares = None if self.mixture is None else self.mixture.shares
        return hashlib.sha256(repr((shares, [dataset.fingerprint() for dataset in self.datasets])).encode()).hexdigest()


def weighted_paths(text: str, option: str) -> List[Tuple[str, Optional[float]]]:
    """``a:0.7,b:0.3`` as paths and weights; ``None`` without one. A path with a comma or colon that exists is itself.

    Raises ``UsageError`` naming ``option`` where only some have a weight, or a weight is no number above 0.
    """
    found = [path_and_weight(piece, option) for piece in paths_in(text)]
    if not all(path for path, _ in found):
        raise UsageError(f"{option} {text}: a path is empty; give them as a:0.7,b:0.3")
    check_weights(found, option, "a:0.7,b:0.3")
    return found


def check_weights(found: Sequence[Tuple[str, Optional[float]]], option: str, example: str) -> None:
    """Raise ``UsageError``, which shows ``example``, where some paths have a weight and others have none."""
    bare = [path for path, weight in found if weight is None]
    if bare and len(bare) < len(found):
        raise UsageError(
            f"{option}: '{bare[0]}' has no weight and others have: give all of them one ({example}), or none"
        )


def paths_in(text: str) -> List[str]:
    """The pieces of ``text`` between commas, each perhaps with a weight; what exists with a comma in its name is one
    piece.
    """
    pieces, found = text.split(","), []
    while pieces:
        # A comma belongs to the name where a path with that comma is there.
        size = next(
            (size for size in range(len(pieces), 1, -1) if _exists(",".join(pieces[:size]), commas=size - 1)), 1
        )
        found.append(",".join(pieces[:size]))
        del pieces[:size]
    return found


def path_and_weight(piece: str, option: str) -> Tuple[str, Optional[float]]:
    """``wiki:0.7`` is ("wiki", 0.7); what exists by that very name is itself. Raises ``UsageError`` for a weight that
    is none.
    """
    path, colon, weight = piece.rpartition(":")
    if not colon or os.path.exists(os.path.expanduser(piece)):
        return piece, None
    try:
        value = float(weight)
    except ValueError:
        if not _exists(path):
            return piece, None  # the colon may be part of a name that is not there
        value = 0.0
    if not 0 < value < math.inf:
        raise UsageError(f"{option} {piece}: the weight must be a number above 0")
    return path, value


def _exists(piece: str, commas: int = 0) -> bool:
    """Whether ``piece``, or what is before its weight, is there and has so many commas."""
    return any(
        path.count(",") >= commas and path and os.path.exists(os.path.expanduser(path))
        for path in (piece, piece.rpartition(":")[0])
    )
