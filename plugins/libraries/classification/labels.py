"""What labels there are: classes in an order, or numbers to come close to."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, shown

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WHOLE = re.compile(r"-?\d+")
#: So many classes there may always be; more than that, at most one for every two rows.
_MANY = 20
#: The largest number of float32.
_LARGEST = 3.4028235e38


class NameList:
    """The type of an option that is a list of names: ``a,b``, ``["a, or b", "c"]``, in YAML ``[a, b]``."""

    wanted = "names with commas between them, or a JSON list of them"

    @staticmethod
    def convert(value: Any) -> Optional[List[str]]:
        """Return the names, or ``None`` for what are none."""
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
        items = value if isinstance(value, (list, tuple)) else str(value).split(",")
        if not all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in items):
            return None
        names = [str(item).strip() for item in items]
        whole = all(names) and all("\0" not in name and name.isprintable() for name in names)
        return names if names and whole and len(set(names)) == len(names) else None


def number_of(label: str) -> Optional[float]:
    """Return the number that a label is, ``None`` for none that a float32 holds."""
    if not _NUMBER.fullmatch(label):
        return None
    value = float(label)
    return value if math.isfinite(value) and abs(value) <= _LARGEST else None


def are_for_regression(labels: Sequence[str]) -> bool:
    """Return whether all ``labels`` are numbers and one is not whole (``4.25``); whole numbers are names of classes."""
    return all(number_of(label) is not None for label in labels) and any(
        not float(label).is_integer() for label in labels
    )


def in_order(labels: Sequence[str]) -> List[str]:
    """Return the different ``labels`` as classes are numbered: whole numbers by size, else by the alphabet."""
    names = set(labels)
    return sorted(names, key=int) if all(_WHOLE.fullmatch(name) for name in names) else sorted(names)


def check_classes(names: Sequence[str], rows: int, where: str) -> None:
    """Raise ``UsageError`` for classes that there is nothing to learn from, or that are no classes."""
    if len(names) < 2:
        raise UsageError(f"{where}: all rows have the label {shown(names[0])}: there is nothing to tell apart")
    if len(names) > max(_MANY, rows // 2):
        numbers = all(number_of(name) is not None for name in names)
        advice = "numbers to come close to are for --regression true" if numbers else "is it the right --label_column?"
        some = ", ".join(map(shown, names[:3]))
        raise UsageError(f"{where}: {rows} rows have {len(names)} different labels ({some}, ...): {advice}")


def classes_of_model(config: Mapping[str, Any]) -> Optional[List[str]]:
    """Return the classes that a ``config.json`` names, in the order of their ids; ``None`` where it names none."""
    found = config.get("id2label")
    if not isinstance(found, dict):
        return None
    by_id = {str(number): name for number, name in found.items()}
    names = [by_id.get(str(number)) for number in range(len(by_id))]
    return [str(name) for name in names] if all(isinstance(name, str) for name in names) else None


def is_regression_model(config: Mapping[str, Any]) -> bool:
    """Return whether a ``config.json`` of HuggingFace is that of a regression: transformers takes one output for it."""
    problem = config.get("problem_type")
    if problem is None:
        return len(config.get("id2label") or (0, 1)) == 1
    return problem == "regression"


def settings_for(classes: Optional[Sequence[str]]) -> Dict[str, Any]:
    """Return what ``config.json`` says of the classes; of a regression (``None``) that it has one output."""
    if classes is None:
        return {"problem_type": "regression", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }


def classes_for(config: Any) -> Tuple[bool, Optional[List[str]]]:
    """Return whether a run is a regression, and else its classes; ``None`` for these where nobody says.

    ``config``: options, of which the data decided ``labels`` and ``regression``; without them ``--init_from`` says it.
    """
    if getattr(config, "regression", None):
        return True, None
    classes = getattr(config, "labels", None)
    start = getattr(config, "init_from", None)
    if classes is None and start is not None:
        from pipeloom.plugins.libraries.huggingface.source import open_pretrained

        found = open_pretrained(start).config
        if is_regression_model(found):
            return True, None
        classes = classes_of_model(found)
    return False, classes
