"""Checks of datasets: the same samples always and everywhere, as declared, and the same batches after a resume."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.dataset import Dataset
from pipeloom.core.data.batches import TrainingBatches
from pipeloom.core.data.checking import check_values
from pipeloom.testing.check import ConformanceError, need
from pipeloom.testing.elsewhere import in_another_process
from pipeloom.testing.subject import Subject

#: So many samples are looked at: the first ones, the last ones, and some between them.
SAMPLES = 48


def opened(subject: Subject, split: str = "train") -> Dataset:
    """Open the dataset anew. Raises ``UsageError``."""
    return subject.hook("pipeloom_open_dataset", config=subject.config, split=split)


def some(dataset: Dataset) -> List[int]:
    """Indices of some samples."""
    chosen = np.random.default_rng(3).integers(0, len(dataset), SAMPLES // 3).tolist()
    count = min(len(dataset), SAMPLES // 3)
    return list(dict.fromkeys([*range(count), *range(len(dataset) - count, len(dataset)), *chosen]))


def gives_the_fields_it_declares(subject: Subject, folder: Path) -> None:
    """Shapes, types, bounds; one field alone, several together, a sample twice, no sample that is not there."""
    dataset = opened(subject)
    indices, names = some(dataset), list(dataset.fields)
    whole = _read(dataset, indices, names)
    for name in names:
        check_values(dataset.fields[name], whole.get(name), indices, _declared)
        alone = _read(dataset, indices, [name])
        need(
            list(alone) == [name],
            f"read(indices, ['{name}']) gives {list(alone)}: return those fields that are asked for",
        )
        _same(alone, whole, [name], "reads differently alone than with the other fields")
    again = _read(dataset, [*reversed(indices), indices[0]], names)
    for name in names:
        need(
            np.array_equal(again[name][:-1][::-1], whole[name]) and np.array_equal(again[name][-1], whole[name][0]),
            f"the field '{name}' of a sample depends on which others are read with it, or in which order: make it a "
            "function of the index",
        )
    described = dataset.describe()
    need(
        isinstance(described, str) and described.strip() and "\n" not in described,
        f"describe() gives {described!r}: return one phrase for the log",
    )


def _declared(text: str) -> ConformanceError:
    return ConformanceError(f"{text}: correct the Field, or what read() gives")


def _read(dataset: Dataset, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
    try:
        values = dataset.read(indices, names)
    except Exception as error:
        raise ConformanceError(
            f"read({list(indices)[:3]}..., {list(names)}) fails: {type(error).__name__}: {error}"
        ) from error
    need(isinstance(values, dict), f"read() gives {type(values).__name__}, not a dict of arrays by field")
    return {name: np.array(value) for name, value in values.items()}  # a copy: the next read may use the same memory


def _same(one: Dict[str, Any], other: Dict[str, Any], names: Sequence[str], what: str) -> None:
    for name in names:
        need(
            np.array_equal(one[name], other[name]),
            f"the field '{name}' {what}: make it a function of the index (and of the run's seed and the epoch)",
        )


def is_the_same_when_opened_again(subject: Subject, folder: Path) -> None:
    """Every rank and every node opens it for itself."""
    first, second = digest(subject), digest(subject)
    other = in_another_process("pipeloom.testing.datasets:digest", subject)
    for how, again in (("opened again", second), ("opened in another process", other)):
        changed = [name for name in first if first[name] != again.get(name)]
        need(
            not changed,
            f"{how}, it has another {', '.join(changed)}: nothing of it may depend on a clock, on random numbers "
            "without a seed, on the order of a set or of files in a folder (sort them), or on what was read before",
        )


def digest(subject: Subject) -> Dict[str, str]:
    """What tells one dataset from another: length, fingerprint, and a hash of some samples of each field."""
    dataset = opened(subject)
    found = {"length": str(len(dataset)), "fingerprint": dataset.fingerprint()}
    indices = some(dataset)
    for epoch in (0, 1):
        values = dataset.read_epochs(indices, [epoch] * len(indices), list(dataset.fields))
        for name, value in values.items():
            array = np.ascontiguousarray(value)
            found[f"field '{name}'"] = found.get(f"field '{name}'", "") + hashlib.sha256(array.tobytes()).hexdigest()
    return found


def goes_on_after_a_resume(subject: Subject, folder: Path) -> None:
    """A step has the same batch whatever was read before, whole or as the shares of two ranks."""
    plan, steps = subject.plan, range(5)

    def batches() -> TrainingBatches:
        fresh = replace(plan, dataset=opened(subject))
        return TrainingBatches(fresh.dataset, fresh.order(), (), plan.config.seed)

    names = list(opened(subject).fields)
    through, resumed = batches(), batches()
    read = [{name: np.array(value) for name, value in through.read(step, names, 0, 1).items()} for step in steps]
    last = resumed.read(steps[-1], names, 0, 1)
    _same(last, read[-1], names, "is another in a run that resumes at this step than in one that came through")
    halves = [{name: np.array(v) for name, v in resumed.read(2, names, part, 2).items()} for part in range(2)]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in names}
    _same(joined, read[2], names, "is another for two data-parallel ranks than for one")


def holds_out_what_it_trains_for(subject: Subject, folder: Path) -> None:
    """Held-out samples have the task, the vocabulary and the fields of the training data."""
    training = opened(subject)
    try:
        held_out = opened(subject, "eval")
    except UsageError:
        return
    if held_out is None:
        return
    for what in ("task", "vocab_size"):
        need(
            getattr(held_out, what) == getattr(training, what),
            f"its held-out samples have the {what} {getattr(held_out, what)!r}, those of training "
            f"{getattr(training, what)!r}",
        )
    for name, one in held_out.fields.items():
        need(
            training.fields.get(name) == one,
            f"the field '{name}' of its held-out samples is {one}, in training {training.fields.get(name)}: declare "
            "the same",
        )
    if len(held_out):
        indices = some(held_out)
        for name, value in _read(held_out, indices, list(held_out.fields)).items():
            check_values(held_out.fields[name], value, indices, _declared)
