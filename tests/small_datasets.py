"""Datasets in memory, and a block's constant that keeps the engine at work, for tests."""

from __future__ import annotations

import numpy as np

from pipeloom.core.contract.dataset import Dataset, Field


class Numbers(Dataset):
    """Samples from arrays by field; ``asked`` has the names of the fields of each read."""

    task, vocab_size = "question_answering", 50

    def __init__(self, **arrays):
        self.arrays = {name: np.array(value) for name, value in arrays.items()}
        self.fields = {name: Field(name, value.shape[1:], str(value.dtype)) for name, value in self.arrays.items()}
        self.asked = []

    def __len__(self):
        return len(next(iter(self.arrays.values())))

    def read(self, indices, names):
        self.asked.append(tuple(names))
        return {name: self.arrays[name][list(indices)] for name in names}

    def describe(self):
        return "numbers"


class Points(Dataset):
    """Samples of a linear regression with a weight each."""

    task = "regression"
    vocab_size = 0
    fields = {name: Field(name, (size,), "float32") for name, size in (("x", 3), ("y", 1), ("weights", 1))}

    def __init__(self, count):
        rng = np.random.default_rng(5)
        self.values = {
            "x": rng.standard_normal((count, 3)),
            "y": rng.standard_normal((count, 1)) * 4,
            "weights": rng.integers(0, 3, (count, 1)).astype(float),
        }

    def __len__(self):
        return len(self.values["x"])

    def read(self, indices, names):
        return {name: self.values[name][indices].astype(np.float32) for name in names}

    def describe(self):
        return "points"


def some_work():
    """For a few milliseconds, as a constant of a block that multiplies it by itself and adds the sum, 0, to what it
    computes.

    The engine now and then dies of a graph that is done at once (docs/oneflow-notes.md).
    """
    return np.zeros((600, 600), np.float32)
