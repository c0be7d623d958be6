"""The held-out set that ``--eval_every`` evaluates on, opened and checked before the engine starts."""
from __future__ import annotations

from typing import Optional

from pipeloom.core.blocks import ModelSpec, stage_inputs
from pipeloom.core.config import Config
from pipeloom.core.data.core_fields import CORE_FIELDS
from pipeloom.core.data.dataset import Dataset, FirstSamples
from pipeloom.core.errors import UsageError, did_you_mean
from pipeloom.core.plugin_manager import PluginManager


def open_held_out(config: Config, plugins: PluginManager, training: Dataset, model: ModelSpec) -> Optional[Dataset]:
    """What to evaluate on, or ``None`` without ``--eval_every``.

    Raises ``UsageError`` where the dataset has no such set, or one that the model of ``training`` cannot read.
    """
    every, samples = config.eval_every, config.eval_samples
    if every is None:
        if samples is not None:
            raise UsageError(f"--eval_samples {samples} has no effect without --eval_every: give the steps between two evaluations")
        return None
    dataset = plugins.hook.pipeloom_open_dataset(config=config, split="eval")
    if dataset is None:
        raise UsageError(f"--eval_every {every}: the dataset has no held-out samples to evaluate on; leave it out, or use a dataset that has some")
    _check(model, training, dataset)
    known = ("loss", *model.evaluated)
    if config.best_metric not in known:
        raise UsageError(f"--best_metric {config.best_metric}: an evaluation of '{model.name}' gives {', '.join(known)}"
                         f"{did_you_mean(config.best_metric, known)}")
    if samples is None:
        return dataset
    if samples > len(dataset):
        raise UsageError(f"--eval_samples {samples} is more than there are to evaluate on: {dataset.describe()}")
    return FirstSamples(dataset, samples)


def _check(model: ModelSpec, training: Dataset, held_out: Dataset) -> None:
    """What is fed to the graph of training must fit the graph of evaluation."""
    where = f"the held-out set ({held_out.describe()})"
    if len(held_out) < 1:
        raise UsageError(f"{where} has no samples: give one that has some, or leave --eval_every out")
    for what in ("task", "vocab_size"):
        if getattr(held_out, what) != getattr(training, what):
            raise UsageError(f"{where} has the {what} {getattr(held_out, what)}, the training data {getattr(training, what)}: they must agree")
    for name in stage_inputs(model.blocks, model.blocks):
        if name in CORE_FIELDS:
            continue
        if name not in held_out.fields:
            raise UsageError(f"{where} has no field '{name}', which model '{model.name}' needs; it has: {', '.join(held_out.fields)}")
        mine, other = held_out.fields[name], training.fields[name]
        if (mine.shape, mine.dtype) != (other.shape, other.dtype):
            raise UsageError(f"{where}: field '{name}' is {mine.dtype} {mine.shape}, in the training data {other.dtype} {other.shape}: "
                             "they must agree")
