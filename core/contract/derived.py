"""Fields that are made of other fields of the same sample, as it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.dataset import Dataset, Field, WrappedDataset


@dataclass(frozen=True)
class DerivedField:
    """A field computed from those named in ``sources``.

    ``compute(*arrays)`` takes them in that order, each ``(N, *shape)``, and returns ``(N, *field.shape)``.
    """

    field: Field
    sources: Tuple[str, ...]
    compute: Callable[..., np.ndarray]


class WithDerived(WrappedDataset):
    """A dataset with the derived fields whose sources it has."""

    def __init__(self, dataset: Dataset, derived: Sequence[DerivedField]) -> None:
        super().__init__(dataset)
        self._derived = {one.field.name: one for one in derived if set(one.sources) <= set(dataset.fields)}
        self.fields = {**dataset.fields, **{name: one.field for name, one in self._derived.items()}}

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._with_derived(names, self._dataset.read(indices, self._sources(names)))

    def read_epochs(self, indices: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._with_derived(names, self._dataset.read_epochs(indices, epochs, self._sources(names)))

    def _sources(self, names: Sequence[str]) -> List[str]:
        """What the fields ``names`` are made of."""
        sources = [source for name in names if name in self._derived for source in self._derived[name].sources]
        return list(dict.fromkeys([*(name for name in names if name not in self._derived), *sources]))

    def _with_derived(self, names: Sequence[str], values: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        return {name: self._computed(name, values) if name in self._derived else values[name] for name in names}

    def _computed(self, name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        one = self._derived[name]
        return one.compute(*(values[source] for source in one.sources)).astype(one.field.dtype)


def with_derived(dataset: Dataset, derived: Sequence[DerivedField]) -> Dataset:
    """``dataset`` with what of ``derived`` can be made of its fields."""
    return WithDerived(dataset, derived) if derived else dataset
