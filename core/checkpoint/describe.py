"""The manifest of a run's checkpoint, from the run."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Dict, Mapping

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.checkpoint.manifest import Manifest, Position
from pipeloom.core.contract.dataset import Dataset
from pipeloom.core.contract.hookspecs import ONE_ANSWER

#: Hooks whose answer decides the mathematics; the others lay out.
MATHEMATICAL = ("pipeloom_build_model", "pipeloom_open_dataset", "pipeloom_build_optimizer", "pipeloom_lr_schedule")


def manifest_of(
    run: Any,
    position: Position,
    norm_sum: float,
    optimizer: str,
    metrics: Mapping[str, float],
    evaluation: Mapping[str, float],
) -> Manifest:
    """Return the manifest of ``run`` at ``position``; the files are added when they are written."""
    plan, config, environment = run.plan, run.config, run.environment()
    return Manifest(
        position={
            **asdict(position),
            "norm_sum": norm_sum,
            "samples": position.data_step * config.train_global_batch_size,
        },
        # Masks and order are functions of these, so nothing of them must be kept but where the run is.
        dropout={"generator": "philox", "seed": config.seed, "data_step": position.data_step},
        config=config.to_dict(),
        given=sorted(config.given | config.carried),
        plugins=run.plugins.selection,
        answers=answers(run.plugins),
        model={
            "name": plan.model.name,
            "task": plan.model.task,
            "size": plan.model.size,
            "huggingface": dict(plan.model.huggingface or {}),
            "repeated": dict(plan.model.adapter.repeated),
            **({"adapter": plan.model.adapter.describe()} if plan.model.adapter.rules else {}),
            **({"pipeline_tag": plan.model.pipeline_tag} if plan.model.pipeline_tag else {}),
        },
        parameters={spec.name: list(spec.shape) for spec in plan.model.parameters},
        optimizer=optimizer,
        data=plan.dataset.fingerprint(),
        layout={name: environment[name] for name in ("cluster", "mesh", "split", "placement")},
        versions={"pipeloom": environment["pipeloom"], "python": environment["python"], **environment["packages"]},
        metrics=dict(metrics),
        evaluation=dict(evaluation),
        saved_at=time.strftime("%Y-%m-%d %H:%M:%S %z"),
    )


def texts_of(dataset: Dataset) -> Dict[str, bytes]:
    """Return the tokenizer files of a checkpoint, as a HuggingFace folder has them; none where there is no vocabulary.

    Raises ``RunError`` where the vocabulary cannot be read.
    """
    vocabulary = dataset.vocabulary
    if vocabulary is None:
        return {}
    try:
        return vocabulary.files()
    except UsageError as error:
        raise RunError(str(error)) from None


def answers(plugins: Any) -> Dict[str, str]:
    """Return which plugin answers each hook that decides the mathematics, by what the answer is called."""
    return {ONE_ANSWER[hook]: plugins.who_answers(hook) for hook in MATHEMATICAL}
