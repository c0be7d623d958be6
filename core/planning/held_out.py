"""The held-out set of a run, opened and checked before the engine starts."""

from __future__ import annotations

from typing import Container, Dict, Optional

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.config.config import Config
from pipeloom.core.contract.blocks import ModelSpec, stage_inputs
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.dataset import Dataset, Field, FirstSamples
from pipeloom.core.contract.derived import with_derived
from pipeloom.core.contract.tasks import Task
from pipeloom.core.data.checking import CheckedDataset
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.planning.goal import Goal


def open_held_out(
    config: Config,
    plugins: PluginManager,
    training: Dataset,
    model: ModelSpec,
    task: Task,
    added: Container[str] = (),
) -> Optional[Dataset]:
    """What to evaluate on, or ``None`` where neither ``--eval_every`` nor an option of the dataset asks for it.

    The fields ``added`` need not be in it: plugins compute them. Raises ``UsageError`` where the dataset has no such
    set, or one that the model of ``training`` cannot read.
    """
    every, samples = config.eval_every, config.eval_samples
    if every is None and not training.held_out:
        if samples is not None:
            raise UsageError(
                f"--eval_samples {samples} has no effect without an evaluation: give --eval_every, the "
                "steps between two of them, or the held-out samples"
            )
        return None
    dataset = plugins.hook.pipeloom_open_dataset(config=config, split="eval")
    if dataset is None:
        asked = f"--eval_every {every}: " if every is not None else ""
        raise UsageError(
            f"{asked}the dataset has no held-out samples to evaluate on; leave it out, or use a dataset that has some"
        )
    dataset = CheckedDataset(with_derived(dataset, task.derived(config)))
    _check(model, training, dataset, added)
    if samples is None:
        return dataset
    if samples > len(dataset):
        raise UsageError(f"--eval_samples {samples} is more than there are to evaluate on: {dataset.describe()}")
    return FirstSamples(dataset, samples)


def absent_labels(model: ModelSpec, held_out: Dataset) -> Dict[str, Field]:
    """The fields for losses and metrics that the held-out set does not have; then it can be scored alone."""
    return {field.name: field for field in model.labels if field.name not in held_out.fields}


def choose_goal(config: Config, task: Task, model: ModelSpec, held_out: Optional[Dataset]) -> Goal:
    """What the best checkpoint has the best of: ``--best_metric``, else what the task says, as far as it is measured.

    Raises ``UsageError`` for a metric that is not.
    """
    own = held_out.figures if held_out is not None else ()
    chosen = config.best_metric or (own[0] if own else task.best_metric)
    if held_out is None:
        return Goal(chosen, chosen in task.higher)
    known = (
        *(("loss", *model.evaluated, *task.derived_figures) if not absent_labels(model, held_out) else ()),
        *((own or task.figures) if held_out.scored and held_out.has_references else ()),
    )
    if config.best_metric is None and chosen not in known and known:
        chosen = known[0]
    if config.best_metric is not None and chosen not in known:
        gives = f"gives {', '.join(known)}{did_you_mean(chosen, known)}"
        nothing = "measures nothing, without references to compare with"
        raise UsageError(f"--best_metric {chosen}: an evaluation of '{model.name}' {gives if known else nothing}")
    return Goal(chosen, chosen in task.higher, measured=bool(known))


def _check(model: ModelSpec, training: Dataset, held_out: Dataset, added: Container[str]) -> None:
    """What is fed to the graph of training must fit the graph of evaluation."""
    where = f"the held-out set ({held_out.describe()})"
    if len(held_out) < 1:
        raise UsageError(f"{where} has no samples: give one that has some, or leave it out")
    for what in ("task", "vocab_size"):
        if getattr(held_out, what) != getattr(training, what):
            raise UsageError(
                f"{where} has the {what} {getattr(held_out, what)}, the training data {getattr(training, what)}: they "
                f"must agree"
            )
    for name in held_out.scored:
        if name not in model.scores:
            raise UsageError(
                f"{where} is scored by the output '{name}', which model '{model.name}' does not "
                f"have{did_you_mean(name, model.scores)}; "
                f"it has: {', '.join(model.scores) or 'none'}"
            )
    absent = absent_labels(model, held_out) if held_out.scored else {}
    for name in stage_inputs(model.blocks, model.blocks):
        if name in CORE_FIELDS or name in added or name in absent:
            continue
        if name not in held_out.fields:
            raise UsageError(
                f"{where} has no field '{name}', which model '{model.name}' needs; it has: {', '.join(held_out.fields)}"
            )
        mine, other = held_out.fields[name], training.fields[name]
        if (mine.shape, mine.dtype) != (other.shape, other.dtype):
            raise UsageError(
                f"{where}: field '{name}' is {mine.dtype} {mine.shape}, in the training data {other.dtype} "
                f"{other.shape}: "
                "they must agree"
            )
