"""From a configuration to a plan, before the engine starts: every misfit ends here, in one line."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.config.config import Config
from pipeloom.core.contract.blocks import BatchSize, ModelSpec, stage_inputs
from pipeloom.core.contract.core_fields import known_fields
from pipeloom.core.contract.dataset import Dataset
from pipeloom.core.contract.derived import with_derived
from pipeloom.core.contract.hookspecs import ONE_ANSWER
from pipeloom.core.contract.layout_choice import MemoryOf
from pipeloom.core.contract.loss_scale import DYNAMIC, INITIAL, INTERVAL
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.rank_load import PredictedMemory
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.contract.tasks import Task
from pipeloom.core.contract.topology import Cluster, Mesh, mesh_from_splits
from pipeloom.core.data.added_fields import find_sample_fields
from pipeloom.core.data.checking import CheckedDataset
from pipeloom.core.host.initial_distributions import check_distributions
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.clusters import resolve_cluster
from pipeloom.core.planning.held_out import choose_goal, open_held_out
from pipeloom.core.planning.memory import stage_loads
from pipeloom.core.planning.micro_batches import with_micro_batch
from pipeloom.core.planning.plan import Choices, Plan, recompute_count
from pipeloom.core.planning.tied_weights import carry_shared, with_copies


class Layout(NamedTuple):
    """Where the model runs: the answers of the plugins that lay it out, with the options that they decided, and why."""

    mesh: Mesh
    split: Tuple[int, ...]
    placement: Placement
    options: Mapping[str, Any] = MappingProxyType({})
    reasons: Tuple[str, ...] = ()


def make_plan(
    config: Config,
    plugins: PluginManager,
    world_size: Optional[int] = None,
    local_rank_differs: bool = False,
    decided: Optional[Tuple[Cluster, Layout]] = None,
    elsewhere: Optional[Cluster] = None,
) -> Plan:
    """Ask the plugins for data, model, layout, partition and placement, in this order, and check the answers.

    ``world_size`` is given in a rank that another launcher has started: then the cluster must have that size;
    ``local_rank_differs`` says that this rank's local rank is not its rank, so that there are several nodes.
    ``decided`` is given in a rank of our launcher, which has asked for the layout: no plugin is asked again.
    ``elsewhere``: the cluster to plan for, where that is not the one that this machine is part of.
    Raises ``UsageError`` for everything that does not fit.
    """
    for hook_name in ONE_ANSWER:
        plugins.require(hook_name)
    cluster = elsewhere or (decided[0] if decided else resolve_cluster(config, world_size, local_rank_differs))
    executor = plugins.hook.pipeloom_executor(config=config)
    executor.check(cluster, config)
    recompute_count(config.recompute, 0)

    opened = plugins.hook.pipeloom_open_dataset(config=config, split="train")
    config = _resolved(config, cluster, opened)
    plugins.hook.pipeloom_lr_schedule(config=config)  # here for its errors alone: the ranks ask again
    task = find_task(plugins, config, opened.task)
    dataset = CheckedDataset(with_derived(opened, task.derived(config)))
    added = find_sample_fields(plugins, config, dataset.fields)
    model = _model(config, plugins, task)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=config, parameters=list(model.parameters))
    executor.check_optimizer(optimizer)  # the ranks ask for it again
    _check_fields(model, dataset, added)

    evaluation = open_held_out(config, plugins, dataset, model, task, added)
    goal = choose_goal(config, task, model, evaluation)

    def memory(mesh: Mesh, split: Sequence[int], options: Mapping[str, Any]) -> List[PredictedMemory]:
        changed, nowhere = config.replace(**options), Placement(cluster, ())
        copied = with_copies(model) if changed.tied_transfer == "table" and mesh.pipeline > 1 else model
        there = Plan(changed, cluster, mesh, dataset, copied, tuple(split), nowhere, evaluation, goal, added)
        return [executor.memory(load) for load in stage_loads(there, optimizer)]

    layout = decided[1] if decided is not None else lay_out(config, plugins, cluster, model, memory)
    mesh, split, placement = layout.mesh, layout.split, layout.placement
    config = with_micro_batch(config.replace(**layout.options), cluster, mesh, split, memory)
    _check_batch(config, mesh)
    batch = BatchSize.of(config.train_global_batch_size, config.seq_length)
    carried = carry_shared(model, split, placement, batch, mesh.tensor, config.tied_transfer)
    config = config.replace(**{**model.settings, "nums_split": mesh.pipeline, "best_metric": goal.metric})
    return Plan(
        config,
        cluster,
        mesh,
        dataset,
        carried,
        split,
        placement,
        evaluation,
        goal,
        added,
        task.derived_figures,
        Choices(model, memory),
        layout.options,
        layout.reasons,
    )


def _model(config: Config, plugins: PluginManager, task: Task) -> ModelSpec:
    model = plugins.hook.pipeloom_build_model(config=config, task=task)
    check_distributions(plugins, config, model)
    return model


def lay_out(
    config: Config, plugins: PluginManager, cluster: Cluster, model: ModelSpec, memory: Optional[MemoryOf] = None
) -> Layout:
    """Ask the plugins for mesh, partition and placement. Raises ``UsageError`` for what does not fit.

    ``memory``: what a layout takes; without it nothing is known of that.
    """
    if cluster.size == 1:
        # There is nothing to lay out; whatever the strategy would say of more devices does not apply.
        mesh = mesh_from_splits(cluster, config.nums_split or 1, config.tensor_parallel)
        mesh.check(cluster)
        return Layout(mesh, (len(model.blocks),), Placement.of(cluster, [[0]]))
    choice = plugins.hook.pipeloom_choose_layout(
        cluster=cluster, model=model, config=config, memory=memory or _unknown_memory
    )
    mesh, split, placement = choice.mesh, choice.split, choice.placement
    config = config.replace(**choice.options).replace(nums_split=mesh.pipeline, tensor_parallel=mesh.tensor)
    if split is None:
        split = plugins.hook.pipeloom_partition(
            blocks=model.blocks,
            num_stages=mesh.pipeline,
            config=config,
            memory=lambda counts: (memory or _unknown_memory)(mesh, counts, choice.options),
        )
    if placement is None:
        placement = plugins.hook.pipeloom_place(cluster=cluster, mesh=mesh, model=model, config=config)
    return Layout(mesh, split, placement, choice.options, choice.reasons)


def _unknown_memory(mesh: Mesh, split: Sequence[int], options: Mapping[str, Any]) -> List[PredictedMemory]:
    return [PredictedMemory() for _ in split]


def _resolved(config: Config, cluster: Cluster, dataset: Dataset) -> Config:
    """``config`` with all that was left to be decided by the machines and the data."""
    return config.replace(
        nnodes=cluster.nodes,
        nproc_per_node=cluster.devices_per_node,
        **_loss_scaling(config),
        vocab_size=dataset.vocab_size,
        **resolved_steps(config, len(dataset)),
        **dataset.settings,
    )


def _loss_scaling(config: Config) -> Dict[str, Any]:
    """Return the options of the loss scale. Raises ``UsageError`` for those that have no effect."""
    scale = config.loss_scale or (DYNAMIC if config.precision == "amp" else 1.0)
    initial, window = config.initial_loss_scale, config.loss_scale_window
    if scale == DYNAMIC:
        return {"loss_scale": scale, "initial_loss_scale": initial or INITIAL, "loss_scale_window": window or INTERVAL}
    for name, value in (("initial_loss_scale", initial), ("loss_scale_window", window)):
        if value is not None:
            raise UsageError(
                f"--{name} {value:g} has no effect on a static loss scale: give --loss_scale {DYNAMIC}, or leave it out"
            )
    return {"loss_scale": scale}


def resolved_steps(config: Config, samples: int) -> Dict[str, Any]:
    """Return ``train_steps`` (also for ``epochs``, which it replaces), and of a run with warmup ``warmup_steps`` (also
    for ``warmup_ratio``), with as many ``samples``."""
    if config.epochs is not None:
        if config.train_steps is not None:
            raise UsageError("--epochs and --train_steps both say how long to train: give one of them")
        steps = max(1, math.ceil(config.epochs * samples / config.train_global_batch_size))
    else:
        steps = config.train_steps or 200
    resolved: Dict[str, Any] = {"train_steps": steps, "epochs": None}
    if {"warmup_steps", "warmup_ratio"} <= config.declared.keys():  # where the default schedule answers
        resolved.update(warmup_steps=_warmup(config, steps), warmup_ratio=None)
    if config.stop_at is not None and config.stop_at > steps:
        raise UsageError(
            f"--stop_at {config.stop_at} is behind the last of the {steps} steps of the run: leave it "
            "out, or raise --train_steps"
        )
    return resolved


def _warmup(config: Config, steps: int) -> int:
    """Steps of warmup of a run of ``steps``."""
    if config.warmup_ratio is not None:
        if config.warmup_steps is not None:
            raise UsageError("--warmup_ratio and --warmup_steps both say how long to warm up: give one of them")
        return math.ceil(steps * config.warmup_ratio)  # as transformers rounds it
    warmup = steps // 10 if config.warmup_steps is None else config.warmup_steps
    if warmup > steps:
        raise UsageError(f"--warmup_steps {warmup} is more than the {steps} steps of the run")
    return warmup


def _check_batch(config: Config, mesh: Mesh) -> None:
    batch, pieces = config.train_global_batch_size, mesh.data * config.grad_acc_steps
    if batch % pieces:
        nearest = max(1, round(batch / pieces)) * pieces
        raise UsageError(
            f"--train_global_batch_size {batch} does not divide into {mesh.data} data-parallel ranks x "
            f"{config.grad_acc_steps} micro-batches (--grad_acc_steps): the nearest that does is {nearest}"
        )


def _check_fields(model: ModelSpec, dataset: Dataset, added: Mapping[str, SampleField]) -> None:
    known: Mapping[str, object] = {**known_fields(dataset.fields), **added}
    for where, names in (("labels", [field.name for field in model.labels]), ("normalize", list(model.normalize))):
        for name in added.keys() & set(names):
            raise UsageError(
                f"model '{model.name}' has the field '{name}' in '{where}', which is for fields of the dataset: a "
                "plugin adds it to every batch (hook pipeloom_sample_fields); leave it out there"
            )
    for name in stage_inputs(model.blocks, model.blocks):
        if name not in known:
            raise UsageError(
                f"model '{model.name}' needs the field '{name}', which the dataset does not have"
                f"{did_you_mean(name, known)}; it has: {', '.join([*dataset.fields, *added])}"
            )
