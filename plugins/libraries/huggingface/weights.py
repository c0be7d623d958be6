"""The weights of a folder as the values that the parameters of a model start from."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Set

import numpy as np

from pipeloom.core.checkpoint.tensors import FLOATS
from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec
from pipeloom.core.contract.weight_adapter import TensorPart, TensorRecipe, WeightAdapter
from pipeloom.plugins.libraries.huggingface.folder import Folder


class Weights:
    """Say which tensors of ``folder`` each parameter of ``model`` starts from, by the model's adapter.

    ``notes`` are lines about what was decided. Raises ``UsageError`` for a tensor of a wrong shape or type, and where
    not one fits.
    """

    def __init__(self, folder: Folder, model: ModelSpec, notes: Sequence[str] = ()) -> None:
        self._folder, self.notes = folder, list(notes)
        adapter, shapes = model.adapter, {spec.name: tuple(spec.shape) for spec in model.parameters}
        #: Parameter -> how it is made of tensors.
        self.recipes: Dict[str, TensorRecipe] = {}
        #: Parameters that the folder does not have; they get their usual initial values.
        self.missing: List[str] = []
        resized: Set[str] = set()
        for name in shapes:
            recipe = adapter.from_huggingface(name, shapes, folder.tensors)
            if recipe is None:
                self.missing.append(name)
                continue
            if name in adapter.fresh and self._has_another_shape(recipe):
                resized.update(part.name for part in recipe.parts)
                self.missing.append(name)
                continue
            for part in recipe.parts:
                self._check(part)
            self.recipes[name] = recipe
        used = {part.name for recipe in self.recipes.values() for part in recipe.parts}
        #: Tensors that belong to no parameter.
        self.unexpected: List[str] = sorted(set(folder.tensors) - used - resized - set(adapter.ignored()))
        if not self.recipes:
            examples = ", ".join(self.unexpected[:3]) or "none at all"
            raise folder.error(f"not one of its tensors belongs to this model (it has {examples})")
        if not folder.setting("tie_word_embeddings", bool, True):
            self.notes += self._stand_ins(adapter)

    @property
    def found(self) -> Dict[str, str]:
        """The first tensor that each parameter is made of."""
        return {name: recipe.parts[0].name for name, recipe in self.recipes.items()}

    def value(self, spec: ParameterSpec) -> Optional[np.ndarray]:
        """Return the float32 initial value of a parameter, ``spec.shape``, or ``None`` where it is missing."""
        recipe = self.recipes.get(spec.name)
        return None if recipe is None else recipe.make(self._read)

    def report(self) -> List[str]:
        """Return lines for the log: what was found, what is missing, what is left over."""
        count = len(self.recipes)
        lines = [f"weights    {count} of {count + len(self.missing)} parameters start from {self._folder.path}"]
        if self.missing:
            lines.append(f"missing    {len(self.missing)}, with their usual initial values: {', '.join(self.missing)}")
        if self.unexpected:
            lines.append(f"unexpected {len(self.unexpected)}, ignored: {', '.join(self.unexpected)}")
        return [*lines, *(f"note       {note}" for note in self.notes)]

    def _read(self, part: TensorPart) -> np.ndarray:
        return self._folder.read(part.name) if part.index is None else self._folder.read(part.name, part.index)

    def _has_another_shape(self, recipe: TensorRecipe) -> bool:
        """Return whether the folder has a tensor of ``recipe`` in another shape, which is noted."""
        other = next((part for part in recipe.parts if self._folder.tensors[part.name][0] != tuple(part.shape)), None)
        if other is not None:
            there, here = list(self._folder.tensors[other.name][0]), list(other.shape)
            self.notes.append(f"{other.name} is {there} there and {here} here: it starts anew")
        return other is not None

    def _check(self, part: TensorPart) -> None:
        shape, kind = self._folder.tensors[part.name]
        if kind not in FLOATS:
            raise self._folder.error(f"'{part.name}' is of type {kind}, which cannot be read here: save it as float32")
        if shape != tuple(part.shape):
            raise self._folder.error(f"'{part.name}' has the shape {list(shape)}, the model needs {list(part.shape)}")

    def _stand_ins(self, adapter: WeightAdapter) -> List[str]:
        """Notes on parameters that the folder should have and that start from another's tensor."""
        same = {once for name in adapter.repeated for once in adapter.spelled(name)}
        return [
            f"{name} is not there: it starts from {stored}"
            for name, stored in self.found.items()
            if name in adapter.aliases and stored not in (*adapter.spelled(name), *same)
        ]


def differing(folder: Folder, adapter: WeightAdapter) -> Dict[str, str]:
    """Return the tensors of ``folder`` that say something else than the one that they should repeat, and that one."""

    def stored(name: str) -> Optional[str]:
        return next((one for one in adapter.spelled(name) if one in folder.tensors), None)

    found: Dict[str, str] = {}
    for name, other in adapter.repeated.items():
        here, there = stored(name), stored(other)
        if here is None or there is None:
            continue
        same_shape = folder.tensors[here][0] == folder.tensors[there][0]
        if not same_shape or not np.array_equal(folder.read(here), folder.read(there)):
            found[name] = other
    return found


def untied_notes(different: Mapping[str, str], model: ModelSpec) -> List[str]:
    """Return the lines about the tensors that ``differing`` found, for the ``model`` that starts from them."""
    parameters = {spec.name for spec in model.parameters}
    return [
        f"{name} differs from {other}, though it should be tied to it: {'both are' if name in parameters else 'it is'}"
        " taken, as in transformers"
        for name, other in different.items()
    ]
