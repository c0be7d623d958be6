"""Starting a model from a HuggingFace folder: ``config.json`` and ``model.safetensors``, which may be in pieces.

The folder states sizes and holds tensors by name (https://huggingface.co/docs/safetensors); which of its
names belongs to which parameter, the model plugin says. Tensors are read one at a time, and by each rank
only those of its own stage. Nothing is ever unpickled, and neither transformers nor torch is needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError, shown
from pipeloom.core.checkpoint import tensors

CONFIG, TENSORS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_REQUIRED = object()


class Folder:
    """An opened folder: its settings and the headers of its tensors. Raises ``UsageError`` where it is broken.

    ``option`` is how the user named it. ``tensors`` maps each name to ``(shape, type)``, the type as safetensors writes
    it (``"F32"``).
    """

    #: Tensors that such a model has besides where nothing is tied, each with that which it is a copy of, as far as is
    #: known.
    repeated: Mapping[str, str] = {}
    #: What model hubs call its task, as far as is known.
    pipeline_tag: Optional[str] = None

    def __init__(self, path: str, option: str = "--init_from") -> None:
        self.path, self._option = Path(path).expanduser(), option
        if not self.path.is_dir():
            raise self.error("there is no such folder")
        #: The content of config.json.
        self.config = self._read_config()
        self.tensors = self._read_headers()

    def error(self, text: str) -> UsageError:
        """The one line about something wrong with this folder."""
        return UsageError(f"{self._option} {self.path}: {' '.join(text.split())}")

    def setting(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
        """The value of ``name`` in config.json, an ``int`` >= 1, a ``float`` > 0, a ``bool`` or a ``str``.

        Raises ``UsageError`` for another type, and where the name is absent and has no ``default``.
        """
        value = self.config.get(name, default)
        if value is _REQUIRED:
            raise self.error(f"{CONFIG} has no '{name}'")
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits or (kind in (int, float) and not 0 < value < float("inf")):
            wanted = {int: "a whole number from 1 on", float: "a positive number", bool: "true or false", str: "text"}[
                kind
            ]
            raise self.error(f"'{name}' in {CONFIG} must be {wanted}, not {shown(value)}")
        return kind(value)

    def require(self, name: str, *allowed: Any) -> None:
        """Raise ``UsageError`` unless ``name`` in config.json is one of ``allowed`` or absent."""
        value = self.config.get(name, allowed[0])
        if not any(value == other and type(value) is type(other) for other in allowed):
            can = ", ".join(map(repr, allowed))
            raise self.error(f"'{name}' in {CONFIG} is {shown(value)}; this model can do {can} alone")

    def read(self, name: str, index: Optional[Tuple[slice, ...]] = None) -> np.ndarray:
        """Return the tensor ``name``, or the part ``index`` of it, as a new float32 array; nothing else is read.

        Raises ``UsageError``.
        """
        file, stored = self._places[name]
        try:
            return tensors.read_float32(self.path / file, stored, index)
        except (OSError, ValueError) as error:
            raise self._damaged(file, error) from None

    def _read_config(self) -> Dict[str, Any]:
        return self._read_json(CONFIG)

    def _read_json(self, name: str) -> Dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise self.error(f"{name}: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:  # not JSON, or not even text
            raise self.error(f"{name} is no JSON file ({error})") from None
        if not isinstance(content, dict):
            raise self.error(f"{name} must be a JSON object, not a {type(content).__name__}")
        return content

    def _read_headers(self) -> Dict[str, Tuple[Tuple[int, ...], str]]:
        found: Dict[str, Tuple[Tuple[int, ...], str]] = {}
        places: Dict[str, Tuple[str, str]] = {}
        for file in self._files():
            try:
                for name, shape, kind in tensors.headers(self.path / file):
                    found[name], places[name] = (shape, kind), (file, name)
            except (OSError, ValueError) as error:
                raise self._damaged(file, error) from None
        self._check_index(places)
        names = self._unwrapped(list(found))
        #: Where each tensor is: its file, and its name there.
        self._places = {names[name]: place for name, place in places.items()}
        return {names[name]: kind for name, kind in found.items()}

    def _files(self) -> List[str]:
        """The names of the files with tensors: one, or those that an index lists."""
        self._index: Dict[str, str] = {}
        if (self.path / TENSORS).exists():
            return [TENSORS]
        if (self.path / INDEX).exists():
            self._index = self._read_json(INDEX).get("weight_map", {})
            names = self._index.values() if isinstance(self._index, dict) else [None]
            if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
                raise self.error(f"{INDEX} has no 'weight_map' from tensors to files of this folder")
            return sorted(set(names))
        if (self.path / "pytorch_model.bin").exists() or list(self.path.glob("pytorch_model-*.bin")):
            raise self.error(
                "pytorch_model.bin is a pickle, which is never loaded: convert it to "
                f"{TENSORS} (transformers: load the model, model.save_pretrained(folder))"
            )
        other = sorted(path.name for path in self.path.glob("*.safetensors"))
        raise self.error(f"it has no {TENSORS}" + (f" (rename {other[0]}, if that is it)" if other else ""))

    def _check_index(self, places: Mapping[str, Tuple[str, str]]) -> None:
        absent = sorted(name for name in self._index if name not in places)
        if absent:
            raise self.error(
                f"'{absent[0]}' is not in {self._index[absent[0]]}, where {INDEX} says that it is: copy "
                "the folder again"
            )

    def _unwrapped(self, names: Sequence[str]) -> Dict[str, str]:
        """Name in the files -> name in the model, which something that wrapped it put its own in front of."""
        wrappers = ["module.", "_orig_mod."]
        # Some models have parts of this name themselves; not with the model as a part of it.
        if any(f"model.{self.config.get('model_type')}." in name for name in names):
            wrappers.append("model.")
        start = ""
        while True:
            around = [wrapper for wrapper in wrappers if all(name.startswith(start + wrapper) for name in names)]
            if not names or not around:
                break
            start += around[0]
        return {name: name[len(start) :] for name in names}

    def _damaged(self, file: str, error: Exception) -> UsageError:
        if isinstance(error, OSError):
            return self.error(f"{file}: {error.strerror or error}")
        return self.error(f"{error}: copy it again")
