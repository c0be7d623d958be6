"""From a configuration to a checked plan, before the engine starts: every misfit ends here, in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from pipeloom.core.base.devices import check_gpus, count_gpus, resolve_device
from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.config.config import Config
from pipeloom.core.contract.blocks import BatchSize, ModelSpec, stage_inputs
from pipeloom.core.contract.core_fields import known_fields
from pipeloom.core.contract.dataset import Dataset
from pipeloom.core.contract.derived import with_derived
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh, mesh_from_splits
from pipeloom.core.data.checking import CheckedDataset
from pipeloom.core.data.order import SampleOrder
from pipeloom.core.host.initial_distributions import check_distributions
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.goal import Goal
from pipeloom.core.planning.held_out import choose_goal, open_held_out
from pipeloom.core.planning.partition import imbalance
from pipeloom.core.planning.sharing import carry_shared
from pipeloom.core.planning.traffic import Traffic, step_traffic


@dataclass(frozen=True)
class Plan:
    """What will run where. ``split`` counts the blocks of each stage; ``evaluation`` is the held-out set, if there is
    one, and ``goal`` what the best checkpoint has the best of."""

    config: Config
    cluster: Cluster
    mesh: Mesh
    dataset: Dataset
    model: ModelSpec
    split: Tuple[int, ...]
    placement: Placement
    evaluation: Optional[Dataset] = None
    goal: Goal = Goal()

    @property
    def micro_batch_size(self) -> int:
        """Samples that one rank works on at once."""
        return self.config.train_global_batch_size // (self.mesh.data * self.config.grad_acc_steps)

    @property
    def batch(self) -> BatchSize:
        """Samples and tokens of the global batch of one step."""
        return BatchSize.of(self.config.train_global_batch_size, self.config.seq_length)

    def recomputed(self) -> List[List[int]]:
        """For each stage the positions of its blocks that ``--recompute`` names: the first ones that are layers."""
        layers = [
            [position for position, block in enumerate(blocks) if block.layer]
            for blocks in self.model.stage_blocks(self.split)
        ]
        return [positions[: _recompute_count(self.config.recompute, len(positions))] for positions in layers]

    def traffic(self) -> Traffic:
        """Bytes that the ranks send each other in a step."""
        return step_traffic(
            self.model,
            self.split,
            self.placement,
            self.batch,
            self.mesh.tensor,
            self.config.grad_acc_steps if self.config.shard == "parameters" else 0,
        )

    def stage_parameters(self) -> List[int]:
        """Number of parameters that each stage holds, copies of another stage's included."""
        return [sum(block.size for block in blocks) for blocks in self.model.stage_blocks(self.split)]

    def order(self) -> SampleOrder:
        config = self.config
        return SampleOrder(
            len(self.dataset), config.train_global_batch_size, config.seed, config.shuffle, self.dataset.mixture
        )

    def describe(self) -> str:
        """The plan in a few lines for the log."""
        config, sizes = self.config, self.stage_parameters()
        by_stage = self.model.stage_blocks(self.split)
        flops = [sum(block.cost.of(self.batch).flops for block in blocks) for blocks in by_stage]
        stages = "; ".join(
            f"stage {number}: {blocks[0].name}"
            + (f"..{blocks[-1].name}" if len(blocks) > 1 else "")
            + f" ({size / 1e6:.2f} M, {work / sum(flops):.0%} of the FLOPs)"
            for number, (blocks, size, work) in enumerate(zip(by_stage, sizes, flops))
        )
        return "\n".join(
            [
                f"model      {self.model.name}, {self.model.size / 1e6:.2f} M parameters in {len(self.model.blocks)} blocks, "
                f"{self.model.flops(self.batch) / self.batch.tokens / 1e6:.1f} MFLOP a token",
                f"data       {self.dataset.describe()}",
                *(
                    [f"evaluation {self.evaluation.describe()}; {self._evaluates()}"]
                    if self.evaluation is not None
                    else []
                ),
                f"mesh       {self.mesh} on {self.cluster}",
                f"partition  {stages}; imbalance {imbalance(sizes):.0%} of parameters, {imbalance(flops):.0%} of FLOPs",
                *(
                    f"placement  {line}" if number == 0 else f"           {line}"
                    for number, line in enumerate(
                        [*self.placement.grid().splitlines(), self.placement.summary() + self._tensor_groups()]
                    )
                ),
                f"traffic    {self._describe_traffic()}",
                f"batch      {config.train_global_batch_size} = {self.micro_batch_size} a micro-batch x "
                f"{config.grad_acc_steps} micro-batches x {self.mesh.data} data-parallel",
            ]
        )

    def _evaluates(self) -> str:
        when = "after the last step" if self.config.eval_every is None else f"every {self.config.eval_every} steps"
        return when if self.goal.measured else f"{when}, with nothing to compare with, so no checkpoint is the best"

    def _groups_across_nodes(self) -> List[Tuple[int, ...]]:
        groups, node_of = self.placement.tensor_groups(self.mesh.tensor), self.cluster.node_of
        return [group for group in groups if len({node_of(rank) for rank in group}) > 1]

    def _tensor_groups(self) -> str:
        if self.mesh.tensor == 1:
            return ""
        return f"; tensor groups of {self.mesh.tensor} {'across' if self._groups_across_nodes() else 'inside'} nodes"

    def hints(self) -> List[str]:
        """What works, and yet may not be what was meant; a line each."""
        config, lines, tensor = self.config, [], self.mesh.tensor
        if self.mesh.pipeline > 1 and config.grad_acc_steps == 1:
            lines.append(
                "hint: with --grad_acc_steps 1 the stages take turns and nothing overlaps; "
                f"try --grad_acc_steps {2 * self.mesh.pipeline}"
            )
        if config.shard != "none" and self.mesh.data == 1:
            lines.append(
                f"hint: --shard {config.shard} spreads over data-parallel ranks, and there is one; leave it out"
            )
        spread = self._groups_across_nodes()
        if spread:
            lines.append(
                f"warning: tensor groups lie across nodes (ranks {', '.join(map(str, spread[0]))}): every layer all-reduces over the "
                f"slow network; a --tensor_parallel that divides the {self.cluster.devices_per_node} devices of a node avoids it"
            )
        filled = sorted(
            {-spec.shape[spec.tensor_dim] % tensor for spec in self.model.parameters if spec.tensor_dim is not None}
            - {0}
        )
        if filled:
            lines.append(
                f"note: sizes that --tensor_parallel {tensor} does not divide (vocabulary {self.dataset.vocab_size}) are filled up "
                f"by {', '.join(map(str, filled))} rows of zeros that have no effect"
            )
        return lines

    def _describe_traffic(self) -> str:
        """``between nodes ..., inside ...``: MB (10^6 bytes) of a step by reason, all pairs and both directions."""
        traffic = self.traffic()
        crossing, whole = traffic.between_nodes(self.placement).sums(), traffic.sums()
        names = {
            "hidden": "hidden states",
            "shared": "tied embedding",
            "gradients": "gradients",
            "tensor": "tensor parallel",
        }

        def amounts(sums: Mapping[str, float]) -> str:
            return (
                ", ".join(f"{names[name]} {amount / 1e6:.1f}" for name, amount in sums.items() if amount) or "nothing"
            )

        inside = {name: amount - crossing[name] for name, amount in whole.items()}
        return f"MB a step between nodes: {amounts(crossing)}; inside: {amounts(inside)}"


def make_plan(
    config: Config, plugins: PluginManager, world_size: Optional[int] = None, local_rank_differs: bool = False
) -> Plan:
    """Ask the plugins for layout, data, model, partition and placement, and check the answers.

    ``world_size`` is given in a rank that another launcher has started: then the cluster must have that size;
    ``local_rank_differs`` says that this rank's local rank is not its rank, so that there are several nodes.
    Raises ``UsageError`` for everything that does not fit.
    """
    for hook_name in ("pipeloom_place", "pipeloom_build_model", "pipeloom_open_dataset"):
        plugins.require(hook_name)
    cluster = resolve_cluster(config, world_size, local_rank_differs)
    # On one device there is nothing to lay out; whatever the strategy would say of more devices does not apply.
    alone = cluster.size == 1
    executor = plugins.hook.pipeloom_executor(config=config)
    executor.check(cluster, config)
    config = _resolve_precision(config)
    if alone:
        mesh = mesh_from_splits(cluster, config.nums_split or 1, config.tensor_parallel)
        mesh.check(cluster)
    else:
        mesh = plugins.hook.pipeloom_choose_layout(cluster=cluster, config=config)
    _check_batch(config, mesh)
    dataset = plugins.hook.pipeloom_open_dataset(config=config, split="train")
    config = _resolve_steps(config, len(dataset))
    config = config.replace(
        vocab_size=dataset.vocab_size,
        nums_split=mesh.pipeline,
        nnodes=cluster.nodes,
        nproc_per_node=cluster.devices_per_node,
    )
    _recompute_count(config.recompute, 0)
    plugins.hook.pipeloom_lr_schedule(config=config)  # here for its errors alone: the ranks ask again
    task = find_task(plugins, config, dataset.task)
    dataset = CheckedDataset(with_derived(dataset, task.derived(config)))
    model = plugins.hook.pipeloom_build_model(config=config, task=task)
    check_distributions(plugins, config, model)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=config, parameters=list(model.parameters))
    executor.check_optimizer(optimizer)  # the ranks ask for it again
    _check_fields(model, dataset)
    evaluation = open_held_out(config, plugins, dataset, model, task)
    goal = choose_goal(config, task, model, evaluation)
    config = config.replace(best_metric=goal.metric)
    if alone:
        split, placement = (len(model.blocks),), Placement.of(cluster, [[0]])
    else:
        split = plugins.hook.pipeloom_partition(blocks=model.blocks, num_stages=mesh.pipeline, config=config)
        placement = plugins.hook.pipeloom_place(cluster=cluster, mesh=mesh, config=config)
    batch = BatchSize.of(config.train_global_batch_size, config.seq_length)
    model = carry_shared(model, split, placement, batch, mesh.tensor, config.tied_transfer)
    return Plan(config, cluster, mesh, dataset, model, split, placement, evaluation, goal)


def resolve_cluster(config: Config, world_size: Optional[int] = None, local_rank_differs: bool = False) -> Cluster:
    """The cluster by the options, the GPUs there are, and the world that another launcher has started."""
    device = resolve_device(config.device)
    gpus = count_gpus() if device == "cuda" else 0
    nodes, per_node = config.nnodes, config.nproc_per_node
    if world_size is not None:
        if nodes is None and per_node is None and local_rank_differs:
            raise UsageError(
                "several nodes were launched: say how many with --nnodes, or how many ranks each has with --nproc_per_node"
            )
        nodes = nodes or (max(1, world_size // per_node) if per_node else 1)
        per_node = per_node or max(1, world_size // nodes)
        if nodes * per_node != world_size:
            raise UsageError(
                f"--nnodes {nodes} x --nproc_per_node {per_node} is {nodes * per_node}, but {world_size} ranks were launched"
            )
    elif device == "cuda":
        nodes, per_node = nodes or 1, per_node or gpus
    else:
        nodes, per_node = nodes or 2, per_node or 2
    logical = config.node_rank is None
    if config.node_rank is not None and config.node_rank >= nodes:
        raise UsageError(f"--node_rank {config.node_rank}: nodes are numbered 0 to {nodes - 1} (--nnodes {nodes})")
    here = nodes * per_node if logical and world_size is None else per_node
    if device == "cuda":
        check_gpus(here)
    if device == "cuda" and here > gpus:
        raise UsageError(
            f"{here} ranks on this machine need {here} GPUs, it has {gpus}: lower --nproc_per_node, or use --device cpu"
        )
    return Cluster(nodes, per_node, device, logical)


def _check_batch(config: Config, mesh: Mesh) -> None:
    batch, pieces = config.train_global_batch_size, mesh.data * config.grad_acc_steps
    if batch % pieces:
        nearest = max(1, round(batch / pieces)) * pieces
        raise UsageError(
            f"--train_global_batch_size {batch} does not divide into {mesh.data} data-parallel ranks x "
            f"{config.grad_acc_steps} micro-batches (--grad_acc_steps): the nearest that does is {nearest}"
        )


def _resolve_steps(config: Config, samples: int) -> Config:
    """Fill in ``train_steps`` (also for ``epochs``, which it replaces) and ``warmup_steps`` (also for
    ``warmup_ratio``)."""
    if config.epochs is not None:
        if config.train_steps is not None:
            raise UsageError("--epochs and --train_steps both say how long to train: give one of them")
        steps = max(1, math.ceil(config.epochs * samples / config.train_global_batch_size))
    else:
        steps = config.train_steps or 200
    schedule: Dict[str, Optional[int]] = {}
    if {"warmup_steps", "warmup_ratio"} <= config.declared.keys():  # where the default schedule answers
        schedule = {"warmup_steps": _warmup(config, steps), "warmup_ratio": None}
    if config.stop_at is not None and config.stop_at > steps:
        raise UsageError(
            f"--stop_at {config.stop_at} is behind the last of the {steps} steps of the run: leave it "
            "out, or raise --train_steps"
        )
    return config.replace(train_steps=steps, epochs=None, **schedule)


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


def _resolve_precision(config: Config) -> Config:
    return config.replace(loss_scale=config.loss_scale or (1024.0 if config.precision == "amp" else 1.0))


def _recompute_count(text: str, layers: int) -> int:
    """How many of ``layers`` layers to recompute. Raises ``UsageError`` for what is no such number."""
    if text in ("none", "full"):
        return layers if text == "full" else 0
    if not text.isdecimal():
        raise UsageError(f"--recompute {text}: give none, full, or the number of layers of each stage to recompute")
    return int(text)


def _check_fields(model: ModelSpec, dataset: Dataset) -> None:
    known: Mapping[str, object] = known_fields(dataset.fields)
    for name in stage_inputs(model.blocks, model.blocks):
        if name not in known:
            raise UsageError(
                f"model '{model.name}' needs the field '{name}', which the dataset does not have"
                f"{did_you_mean(name, known)}; it has: {', '.join(dataset.fields)}"
            )
