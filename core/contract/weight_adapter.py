"""How the parameters of a model stand in a HuggingFace folder: other names, transposed, fused and split matrices.

A model plugin states a ``WeightAdapter``; both directions follow from it, and each tensor is made when it is wanted, of
nothing but the parts that it needs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class TensorPart:
    """Name a tensor, or the range ``start`` to ``stop`` of it along ``axis``; the whole tensor must have ``shape``."""

    name: str
    shape: Shape
    axis: int = 0
    start: int = 0
    stop: Optional[int] = None

    @property
    def index(self) -> Optional[Tuple[slice, ...]]:
        """The slices to read; ``None`` for the whole tensor."""
        return None if self.stop is None else (slice(None),) * self.axis + (slice(self.start, self.stop),)


@dataclass(frozen=True)
class TensorRecipe:
    """Say how one tensor of ``shape`` is made: of ``parts``, ``transposed`` where so, in a row along ``axis``."""

    shape: Shape
    parts: Tuple[TensorPart, ...]
    transposed: bool = False
    axis: int = 0

    def make(self, read: Callable[[TensorPart], np.ndarray]) -> np.ndarray:
        """Return the tensor, of what ``read`` returns for each part."""
        arrays = [read(part).T if self.transposed else read(part) for part in self.parts]
        return np.asarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, self.axis), order="C")


@dataclass(frozen=True)
class TensorRule:
    """Relate ``parameters`` of a model and ``tensors`` of a folder, one of which is a single name.

    Several parameters stand in one tensor in a row along its ``axis`` (GPT-2's ``c_attn``: query, key and value); or
    one parameter stands there as several tensors, in equal shares of that axis, or of the given ``sizes``. With
    ``transposed`` the folder has matrices as ``(in, out)``.
    """

    parameters: Tuple[str, ...]
    tensors: Tuple[str, ...]
    axis: int = 0
    transposed: bool = False
    sizes: Tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if 1 not in (len(self.parameters), len(self.tensors)):
            raise ValueError(f"a rule needs a single parameter or a single tensor: {self.parameters}, {self.tensors}")

    def tensor_recipes(self, shapes: Mapping[str, Shape]) -> Dict[str, TensorRecipe]:
        """Return how each of ``tensors`` is made of the parameters, whose ``shapes`` are by name."""
        sizes = self._sizes(shapes)
        if len(self.tensors) == 1:
            parts = tuple(TensorPart(name, shapes[name]) for name in self.parameters)
            whole = self._sized(self._turned(shapes[self.parameters[0]]), sum(sizes))
            return {self.tensors[0]: TensorRecipe(whole, parts, self.transposed, self.axis)}
        (name,), found, start = self.parameters, {}, 0
        for tensor, size in zip(self.tensors, sizes):
            part = TensorPart(name, shapes[name], self._own_axis, start, start + size)
            found[tensor] = TensorRecipe(self._sized(self._turned(shapes[name]), size), (part,), self.transposed)
            start += size
        return found

    def parameter_recipe(self, parameter: str, shapes: Mapping[str, Shape], stored: Sequence[str]) -> TensorRecipe:
        """Return how ``parameter`` is made of the tensors, which the folder has under the names ``stored``."""
        whole = [recipe.shape for recipe in self.tensor_recipes(shapes).values()]
        if len(self.parameters) == 1:
            parts = tuple(TensorPart(name, shape) for name, shape in zip(stored, whole))
            return TensorRecipe(shapes[parameter], parts, self.transposed, self._own_axis)
        sizes, position = self._sizes(shapes), self.parameters.index(parameter)
        start = sum(sizes[:position])
        part = TensorPart(stored[0], whole[0], self.axis, start, start + sizes[position])
        return TensorRecipe(shapes[parameter], (part,), self.transposed)

    @property
    def _own_axis(self) -> int:
        """The axis of the parameter that is ``axis`` of the tensor."""
        return 1 - self.axis if self.transposed else self.axis

    def _turned(self, shape: Shape) -> Shape:
        return tuple(shape[::-1]) if self.transposed else tuple(shape)

    def _sized(self, shape: Shape, size: int) -> Shape:
        return (*shape[: self.axis], size, *shape[self.axis + 1 :])

    def _sizes(self, shapes: Mapping[str, Shape]) -> Tuple[int, ...]:
        """The length of each parameter, or of each tensor, along ``axis`` of the tensors."""
        lengths = tuple(self._turned(shapes[name])[self.axis] for name in self.parameters)
        if len(self.tensors) == 1:
            return lengths
        sizes = self.sizes or (lengths[0] // len(self.tensors),) * len(self.tensors)
        if len(sizes) != len(self.tensors) or sum(sizes) != lengths[0]:
            raise ValueError(f"{self.parameters[0]} of length {lengths[0]} does not divide into {self.tensors}")
        return sizes


@dataclass(frozen=True)
class WeightAdapter:
    """State how the parameters of a model stand in a HuggingFace folder.

    A parameter that no rule of ``rules`` names stands there under its own name and in its own shape. ``prefix`` is that
    of the model without a head, whose folders have names without it (``"bert."``); ``spellings`` are endings of names
    as they are now and as they once were; ``aliases`` gives further names under which a folder may hold a tensor (its
    own stands before them, unless it is among them). ``repeated`` are tensors that say once more what another one says,
    each with that one; ``buffers`` are those that hold no weights. ``fresh`` are parameters that start anew where a
    folder has them in another shape.
    """

    rules: Tuple[TensorRule, ...] = ()
    prefix: str = ""
    spellings: Tuple[Tuple[str, str], ...] = ()
    aliases: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
    buffers: Tuple[str, ...] = ()
    fresh: Tuple[str, ...] = ()

    def to_huggingface(self, shapes: Mapping[str, Shape]) -> Dict[str, TensorRecipe]:
        """Return for each tensor of a folder how it is made of the parameters, whose ``shapes`` are by name."""
        found: Dict[str, TensorRecipe] = {}
        for name, shape in shapes.items():
            rule = self._rule_of(name)
            if rule is None:
                found[name] = TensorRecipe(tuple(shape), (TensorPart(name, tuple(shape)),))
            elif name == rule.parameters[0]:
                found.update(rule.tensor_recipes(shapes))
        return found

    def from_huggingface(self, name: str, shapes: Mapping[str, Shape], there: Any) -> Optional[TensorRecipe]:
        """Return how the parameter ``name`` is made of tensors ``there``, which are by name; ``None`` if they are
        missing. ``shapes`` are those of all parameters of the model."""
        rule = self._rule_of(name)
        wanted = (name,) if rule is None else rule.tensors
        stored = [next((one for one in self.stored_names(tensor) if one in there), None) for tensor in wanted]
        names = [one for one in stored if one is not None]
        if len(names) < len(wanted):
            return None
        if rule is None:
            return TensorRecipe(tuple(shapes[name]), (TensorPart(names[0], tuple(shapes[name])),))
        return rule.parameter_recipe(name, shapes, names)

    def stored_names(self, tensor: str) -> List[str]:
        """Return the names under which a folder may hold ``tensor``, the one to prefer first."""
        others = self.aliases.get(tensor, ())
        names = others if tensor in others else (tensor, *others)
        return [once for name in names for once in self.spelled(name)]

    def spelled(self, name: str) -> List[str]:
        """Return ``name`` and what it is in folders without the prefix, and in older ones."""
        names = [name]
        if self.prefix and name.startswith(self.prefix):
            names.append(name[len(self.prefix) :])
        for now, once in self.spellings:
            names += [other[: -len(now)] + once for other in names if other.endswith(now)]
        return names

    def ignored(self) -> List[str]:
        """Return the names of tensors that need not belong to a parameter."""
        return [
            once for name in (*self.buffers, *self.repeated, *self.repeated.values()) for once in self.spelled(name)
        ]

    def describe(self) -> List[Dict[str, Any]]:
        """Return the rules as JSON has them, for the manifest of a checkpoint: ``adapter_from`` makes them again."""
        return [asdict(rule) for rule in self.rules]

    def _rule_of(self, parameter: str) -> Optional[TensorRule]:
        return next((rule for rule in self.rules if parameter in rule.parameters), None)


def adapter_from(described: Any) -> WeightAdapter:
    """Return the adapter with the rules that ``WeightAdapter.describe`` gave. Raises ``ValueError``."""
    try:
        return WeightAdapter(
            tuple(
                TensorRule(
                    tuple(map(str, rule["parameters"])),
                    tuple(map(str, rule["tensors"])),
                    int(rule["axis"]),
                    bool(rule["transposed"]),
                    tuple(map(int, rule["sizes"])),
                )
                for rule in described
            )
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no rules of an adapter: {error!r}") from None
