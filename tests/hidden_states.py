"""A plugin as a third party writes one: a task whose outputs per sample are the encoder's hidden states, and samples
for it.

What is loaded from a folder, and what a pipeline makes of it, can be looked at with it. Its loss is the mean square of
the hidden states.
"""

from __future__ import annotations

import numpy as np

import pipeloom
from pipeloom.core.contract.blocks import SAMPLE_WEIGHT, Block, Cost
from pipeloom.core.contract.dataset import Dataset, Field, Scorer
from pipeloom.core.contract.tasks import Head, Task

TASK = "hidden_states"


@pipeloom.hookimpl
def pipeloom_tasks(config):
    return [Task(TASK, _head, figures=("largest",), best_metric="largest", higher=("largest",))]


def _head(config, encoder):
    def build(scope):
        def block(hidden, fields):
            B = hidden.shape[0]
            square = (hidden * hidden).reshape(B, -1).sum(dim=1) * (1.0 / (encoder.seq_length * encoder.hidden))
            results = {"square": (square * fields[SAMPLE_WEIGHT].reshape(B)).sum()}
            if not scope.training:
                results["hidden_states"] = hidden
            return results

        return block

    block = Block(
        "hidden_states", (), Cost(flops=2.0 * encoder.hidden, output_bytes=0.0, kept_bytes=4.0), (SAMPLE_WEIGHT,), build
    )
    return Head(block, {"square": 1.0}, outputs={"hidden_states": (encoder.seq_length, encoder.hidden)})


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("samples_file", str, None, help="npz with input_ids, input_mask and segment_ids")


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return Samples(config.samples_file, config.vocab_size or 30522)


class Samples(Dataset):
    task, scored = TASK, ("hidden_states",)

    def __init__(self, path, vocab_size):
        self.vocab_size = vocab_size
        with np.load(path, allow_pickle=False) as file:
            self.values = {name: file[name] for name in file.files}
        self.fields = {name: Field(name, value.shape[1:], "int32") for name, value in self.values.items()}

    def __len__(self):
        return len(self.values["input_ids"])

    def read(self, indices, names):
        return {name: self.values[name][list(indices)] for name in names}

    def scorer(self):
        return Collector()

    def describe(self):
        return f"{len(self)} samples"


class Collector(Scorer):
    """Keeps what it is given, and says what its largest number is."""

    def __init__(self):
        self.rows = {}

    def add(self, indices, outputs):
        self.rows.update(zip(indices, outputs["hidden_states"]))

    def finish(self, folder):
        found = np.stack([self.rows[index] for index in sorted(self.rows)])
        np.save(folder / "hidden_states.npy", found)
        return {"largest": float(np.abs(found).max()), "samples": len(found)}
