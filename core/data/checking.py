"""What any dataset returns is held to what it declares, before an engine gets it."""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Sequence

import numpy as np

from pipeloom.core.base.errors import RunError
from pipeloom.core.contract.dataset import Field, WrappedDataset


class CheckedDataset(WrappedDataset):
    """A dataset whose reads are checked: names, shapes, dtypes, bounds, and that floats are finite.

    An index out of bounds in a kernel of an engine ends the process, and a NaN ends in every weight. ``read`` raises
    ``RunError`` that names the dataset, the sample and the field.
    """

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._checked(indices, names, self._dataset.read(indices, names))

    def read_epochs(self, indices: Sequence[int], epochs: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._checked(indices, names, self._dataset.read_epochs(indices, epochs, names))

    def _checked(
        self, indices: Sequence[int], names: Sequence[str], values: Mapping[str, np.ndarray]
    ) -> Dict[str, np.ndarray]:
        if not isinstance(values, Mapping):
            raise self._error(f"reading gives {type(values).__name__}, not arrays by the names of fields")
        for name in names:
            if name not in values:
                raise self._error(f"reading gives no field '{name}'")
            check_values(self.fields[name], values[name], indices, self._error)
        return {name: values[name] for name in names}

    def _error(self, text: str) -> RunError:
        return RunError(f"the dataset ({self._dataset.describe()}): {text}")


def check_values(
    field: Field, value: object, indices: Sequence[int], error: Callable[[str], Exception] = RunError
) -> None:
    """Raise ``error(text)`` unless ``value`` is as ``field`` declares for the samples ``indices``."""
    shape = (len(indices), *field.shape)
    if not isinstance(value, np.ndarray) or value.dtype != field.dtype or value.shape != shape:
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise error(f"field '{field.name}' of {len(indices)} samples is {found}, declared is {field.dtype} {shape}")
    if not value.size:
        return
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise error(_fault(field, value, ~np.isfinite(value), indices, "a finite number"))
    low = -np.inf if field.low is None else field.low
    high = np.inf if field.high is None else field.high
    if value.min() < low or value.max() >= high:
        allowed = f"{low} to {field.high - 1}" if field.high is not None else f"at least {low}"
        raise error(_fault(field, value, (value < low) | (value >= high), indices, allowed))


def _fault(field: Field, value: np.ndarray, bad: np.ndarray, indices: Sequence[int], allowed: str) -> str:
    """Describe the first value that is ``bad``."""
    place = tuple(int(number) for number in np.argwhere(bad)[0])
    at = f" at {', '.join(map(str, place[1:]))}" if place[1:] else ""
    return f"sample {indices[place[0]]}: field '{field.name}' is {value[place]}{at}, it must be {allowed}"
