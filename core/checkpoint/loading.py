"""Reading a checkpoint: tensors by name, one at a time, by whoever needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeloom.core.base.errors import RunError, UsageError, did_you_mean
from pipeloom.core.checkpoint import tensors
from pipeloom.core.checkpoint.manifest import BadCheckpoint, Manifest, optimizer_key, read_manifest, tensor_files
from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec


class Checkpoint:
    """A checkpoint whose files are read without their checksums. Raises ``UsageError`` where it has no manifest."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.manifest: Manifest = read_manifest(self.path)
        except BadCheckpoint as bad:
            raise UsageError(f"checkpoint {self.path}: {bad}") from None
        self._files = tensor_files(self.manifest)

    def parameter(self, spec: ParameterSpec) -> np.ndarray:
        """Read the value of a parameter: float32, ``spec.shape``. Raises ``RunError`` where it cannot be read."""
        return self._read(spec.name, spec)

    def optimizer(self, kind: str, spec: ParameterSpec) -> np.ndarray:
        """Read the optimizer's state of one kind for a parameter, of its shape. Raises ``RunError``."""
        return self._read(optimizer_key(kind, spec.name), spec)

    def _read(self, name: str, spec: ParameterSpec) -> np.ndarray:
        try:
            array = tensors.read(self.path / self._files[name], name)
        except KeyError:
            raise RunError(f"checkpoint {self.path} has no tensor '{name}'") from None
        except (OSError, ValueError) as error:
            raise RunError(f"checkpoint {self.path}: {getattr(error, 'strerror', None) or error}") from None
        if array.dtype != np.float32:
            raise RunError(f"checkpoint {self.path}: '{name}' is of {array.dtype}, not float32")
        if array.shape != tuple(spec.shape):
            raise RunError(
                f"checkpoint {self.path}: '{name}' has the shape {list(array.shape)}, the model needs "
                f"{list(spec.shape)}"
            )
        return array

    def check_model(self, model: ModelSpec) -> None:
        """Raise ``UsageError`` unless the checkpoint is one of this very model."""
        mine, theirs = {spec.name: list(spec.shape) for spec in model.parameters}, self.manifest.parameters
        named = self.manifest.model
        where = (
            f"checkpoint {self.path} is of another model ({named['name']} for {named['task']}, "
            f"{named['size'] / 1e6:.1f} M parameters)"
        )
        for name, shape in mine.items():
            if name not in theirs:
                raise UsageError(f"{where}: it has no parameter '{name}'{did_you_mean(name, theirs)}")
            if theirs[name] != shape:
                raise UsageError(f"{where}: its '{name}' has the shape {theirs[name]}, here it has {shape}")
        unknown = sorted(set(theirs) - set(mine))
        if unknown:
            raise UsageError(f"{where}: it has a parameter '{unknown[0]}', which this model has not")
