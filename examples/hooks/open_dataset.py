"""Eight digits a sample, and their sum; for the task of ``tasks.py``."""

import numpy as np

import pipeloom
from pipeloom.core.contract.dataset import Dataset, Field


class Digits(Dataset):
    task, vocab_size = "sums", 10
    fields = {
        "input_ids": Field("input_ids", (8,), "int32", low=0, high=10),
        "total": Field("total", (1,), "float32"),
    }

    def __init__(self, first, count):
        self._first, self._count = first, count

    def __len__(self):
        return self._count

    def read(self, indices, names):
        digits = np.stack([np.random.default_rng(self._first + int(index)).integers(0, 10, 8) for index in indices])
        values = {"input_ids": digits.astype(np.int32), "total": digits.sum(1, keepdims=True).astype(np.float32)}
        return {name: values[name] for name in names}

    def describe(self):
        return f"{self._count} rows of eight digits"


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return Digits(0, 1000) if split == "train" else Digits(1000, 50)
