"""``entry.py [train]``: the launcher of a job, or one of its ranks."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from pipeloom.core.base.devices import hide_gpus
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.free_memory import rooms
from pipeloom.core.base.output import survive_closed_output
from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.resume import Resumed, check_changes
from pipeloom.core.checkpoint.store import FOLDER, Store
from pipeloom.core.config.config import Config
from pipeloom.core.config.origins import origins_in_errors
from pipeloom.core.host.calls import blaming
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.launch.control.phase_page import leave_stacks_when_asked
from pipeloom.core.launch.identity import identity
from pipeloom.core.launch.job import Job
from pipeloom.core.launch.launcher import LaunchSpec, NodesSpec, free_port, launch
from pipeloom.core.launch.network import address_environment, card_address, check_address, local_fault
from pipeloom.core.launch.ports import is_own_address
from pipeloom.core.launch.processes import own_command
from pipeloom.core.launch.rank import run_rank
from pipeloom.core.planning.fitting import check_memory
from pipeloom.core.planning.memory import memory_by_rank
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.report import hints
from pipeloom.core.training.run import choose_directory, held


class JobEnd(NamedTuple):
    """How a job ended that this process has launched: its exit code (``launch`` says which), the run directory, and
    what is known of why it failed."""

    exit_code: int
    directory: Path
    reason: str = ""


def train(config: Config, plugins: PluginManager, arguments: Sequence[str], resumed: Optional[Resumed] = None) -> int:
    """Train, as a rank if this process is one, else by starting the ranks; returns the exit code.

    ``resumed``: what ``--resume`` found, ``None`` without it.
    """
    survive_closed_output()
    if all(name in os.environ for name in RANK_VARIABLES):
        return run_rank(origins_in_errors(config)(blaming(plugins)(lambda: _be_rank(config, plugins, resumed))))
    return train_by_ranks(config, plugins, [*own_command(), "train", *arguments], resumed).exit_code


def train_by_ranks(
    config: Config,
    plugins: PluginManager,
    command: Sequence[str],
    resumed: Optional[Resumed] = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> JobEnd:
    """Plan, start the ranks of this node and wait for their end.

    ``command`` makes a process of pipeloom a rank, which gets ``environment`` besides that of this process. Raises
    ``UsageError`` for what does not fit and ``RunError``; what goes wrong in a rank is in the exit code.
    """
    with origins_in_errors(config), blaming(plugins):
        return _start_ranks(config, plugins, command, resumed, environment)


def train_for(job: Job) -> int:
    """Train as a rank of ``job``, which our launcher has resolved; returns the exit code."""
    survive_closed_output()
    leave_stacks_when_asked()  # a plugin may wait in its import
    config, plugins = job.restore()
    return run_rank(origins_in_errors(config)(blaming(plugins)(lambda: _be_rank(config, plugins, None, job))))


def _be_rank(config: Config, plugins: PluginManager, resumed: Optional[Resumed], job: Optional[Job] = None) -> int:
    rank, world_size, local_rank = _identity(os.environ)
    check_address(os.environ["MASTER_ADDR"], "MASTER_ADDR")
    if job is not None:
        plan = make_plan(config, plugins, decided=job.decided())
        directory, path = Path(job.directory), Path(job.resume) if job.resume else None
    else:
        fault = local_fault(world_size)
        if fault:
            raise UsageError(fault)
        plan = make_plan(config, plugins, world_size, local_rank != rank)
        directory = choose_directory(config.output_dir, config.plugins, resumed, shared=rank != 0)
        path = resumed.path if resumed is not None else None
    if plan.cluster.size != world_size:
        raise UsageError(
            f"{world_size} ranks were launched, but {plan.cluster} has {plan.cluster.size}: "
            "give --nnodes and --nproc_per_node"
        )
    os.environ.update(_reached_by(plan, os.environ["MASTER_ADDR"]))
    if plan.cluster.device_type == "cpu":
        hide_gpus()
    from pipeloom.core.training.rank_life import train_in_rank

    checkpoint = Checkpoint(path) if path is not None else None
    return train_in_rank(plan, plugins, directory, rank, checkpoint, job.started if job is not None else None)


def _identity(environment: Mapping[str, str]) -> Tuple[int, int, int]:
    """``RANK, WORLD_SIZE, LOCAL_RANK`` as a launcher has set them. Raises ``UsageError`` for what no launcher would."""

    def number(name: str, low: int, high: int) -> int:
        text = environment[name]
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise UsageError(
                f"{name}={text} in the environment is not a number from {low} to {high}: a launcher sets "
                f"{', '.join(RANK_VARIABLES)} for each rank; unset them, and this is the launcher"
            )
        return int(text)

    number("MASTER_PORT", 1, 65535)
    world_size = number("WORLD_SIZE", 1, 2**20)
    return number("RANK", 0, world_size - 1), world_size, number("LOCAL_RANK", 0, world_size - 1)


def _reached_by(plan: Plan, master_addr: str) -> Dict[str, str]:
    """What the engine is told of this machine's address; nothing where all nodes are here."""
    several = plan.cluster.nodes > 1 and not plan.cluster.logical
    return address_environment(plan.config.interface, master_addr if several else None)


def _start_ranks(
    config: Config,
    plugins: PluginManager,
    command: Sequence[str],
    resumed: Optional[Resumed],
    environment: Mapping[str, str],
) -> JobEnd:
    started = time.time()
    plan = make_plan(config, plugins)
    cluster = plan.cluster
    address, port = _master(plan)
    if cluster.logical:
        ranks = range(cluster.size)
    else:
        ranks = range(config.node_rank * cluster.devices_per_node, (config.node_rank + 1) * cluster.devices_per_node)
    if 0 in ranks:
        print(_chosen(plan), flush=True)
        for line in (*plan.reasons, *hints(plan)):
            print(line, flush=True)
    if resumed is not None:
        for line in _describe(plan, plugins, resumed):
            print(line, flush=True)
    for line in _check_memory(config, plan, plugins, ranks):
        print(line, flush=True)
    directory = choose_directory(config.output_dir, config.plugins, resumed, shared=0 not in ranks)
    if 0 in ranks and config.save_every != 0:
        for line in _describe_surplus(config, Store(directory / FOLDER)):
            print(line, flush=True)
    # OneFlow tells machines apart by their addresses: ranks of a "node" on the host of node 0 are the further ones of
    # that machine, and an engine that is told otherwise dies of a variable that it looks for on another rank.
    first_local_rank = ranks[0] if not cluster.logical and is_own_address(address) else 0
    reasons: List[str] = []
    spec = LaunchSpec(
        command=command,
        env=environment,
        ranks=list(ranks),
        world_size=cluster.size,
        nproc_per_node=cluster.devices_per_node,
        master_addr=address,
        master_port=port,
        log_dir=directory / "logs",
        inherited=plugins.hook.pipeloom_executor(config=config).environment(os.environ, cluster),
        first_local_rank=first_local_rank,
        resume=str(resumed.path or "") if resumed is not None else "",
        job_text=lambda resume: Job.of(config, plan, str(directory), started, resume).to_text(),
        nodes=_nodes(plan, address, port, plugins),
        choose_resume=lambda: _resume_point(directory, resumed),
        report=reasons.append,
        **_limits(plan),
    )
    with held(directory) if 0 in ranks else nullcontext():
        return JobEnd(launch(spec), directory, reasons[-1] if reasons else "")


def _check_memory(config: Config, plan: Plan, plugins: PluginManager, ranks: Sequence[int]) -> List[str]:
    """Return a warning where ``ranks`` may not fit into this machine. Raises ``UsageError`` where they cannot."""
    executor = plugins.hook.pipeloom_executor(config=plan.config)
    optimizer = plugins.hook.pipeloom_build_optimizer(config=plan.config, parameters=list(plan.model.parameters))
    return check_memory(
        plan,
        rooms(plan.cluster.device_type, ranks),
        lambda one: memory_by_rank(one, executor, optimizer),
        lambda options: make_plan(config.replace(**options), plugins),
    )


def _limits(plan: Plan) -> Dict[str, Any]:
    """What a hang is, and how a restart goes: fields of a ``LaunchSpec``."""
    config = plan.config
    return {
        "step_timeout": config.step_timeout,
        "max_restarts": config.max_restarts,
        "port_is_free_to_choose": config.master_port is None and (plan.cluster.logical or plan.cluster.nodes == 1),
    }


def _nodes(plan: Plan, address: str, port: int, plugins: PluginManager) -> Optional[NodesSpec]:
    """This node among several with a launcher each; ``None`` when all ranks are on this host."""
    config, cluster = plan.config, plan.cluster
    if cluster.logical or cluster.nodes == 1:
        return None
    if port == 65535:
        raise UsageError(
            "--master_port 65535: the launchers of the nodes meet on the port after it; choose a lower one"
        )
    return NodesSpec(
        config.node_rank,
        cluster.nodes,
        cluster.devices_per_node,
        address,
        port + 1,
        config.node_timeout,
        config.heartbeat_timeout,
        identity(plan, plugins),
    )


def _resume_point(directory: Path, resumed: Optional[Resumed]) -> Optional[Path]:
    """Where a restart goes on: the newest whole checkpoint of this run, else where the run began."""
    path, notes = Store(directory / FOLDER).newest_whole()
    for note in notes:
        print(note, flush=True)
    return path or (resumed.path if resumed else None)


def _describe(plan: Plan, plugins: PluginManager, resumed: Resumed) -> List[str]:
    """What the log says about a resumed run. Raises ``UsageError`` where it must not go on."""
    if resumed.path is None:
        return resumed.notes
    checkpoint = Checkpoint(resumed.path)
    position, total = checkpoint.manifest.position, plan.config.train_steps
    if position["step"] >= total:
        raise UsageError(
            f"the checkpoint {resumed.path} has done step {position['step']} of --train_steps {total}: nothing is left "
            f"to do; more "
            "steps change the schedule: --train_steps N --resume_allow train_steps"
        )
    left_out = f", {position['skipped']} batches left out" if position["skipped"] else ""
    return [
        *resumed.notes,
        f"resume     {resumed.path}: step {position['step']} of {total}, {position['samples']} samples{left_out}",
        *check_changes(plan.config, plan, plugins, checkpoint),
    ]


def _describe_surplus(config: Config, store: Store) -> List[str]:
    """What becomes of checkpoints that are there beyond ``--keep``: they go if this very command line asks for it."""
    surplus = store.surplus(config.keep)
    if not surplus:
        return []
    ends = " to ".join(dict.fromkeys((surplus[0].name, surplus[-1].name)))
    which = f"{len(surplus)} older than the newest {config.keep} ({ends})"
    if "keep" in config.typed:
        return [f"keep       --keep {config.keep}: {which} will be removed when the next checkpoint is whole"]
    return [f"keep       {which} were there before and stay; --keep {config.keep} in the command line removes them"]


def _master(plan: Plan):
    """Address and port of rank 0."""
    config, card = plan.config, plan.config.interface
    if config.master_addr is not None:
        check_address(config.master_addr)
    own = card_address(card) if card is not None else None
    if card is not None and plan.cluster.logical:
        raise UsageError(
            f"--interface {card} without --node_rank: all nodes run on this host and nothing crosses a card; leave it "
            f"out"
        )
    if plan.cluster.logical or plan.cluster.nodes == 1:
        if config.master_addr not in (None, "127.0.0.1", "localhost") and plan.cluster.nodes > 1:
            raise UsageError(
                f"--master_addr {config.master_addr} without --node_rank: say which of the {plan.cluster.nodes} nodes "
                "this is (--node_rank 0 ...), or leave --master_addr out to run all of them here"
            )
        return config.master_addr or own or "127.0.0.1", config.master_port or free_port()
    if config.master_addr is None and config.node_rank == 0 and own is not None:
        return own, config.master_port or 29500
    if config.master_addr is None:
        raise UsageError(
            f"{plan.cluster.nodes} nodes need --master_addr, the address of node 0 "
            "(or leave --node_rank out to run logical nodes on this host)"
        )
    _reached_by(plan, config.master_addr)  # for its error
    return config.master_addr, config.master_port or 29500


def _chosen(plan: Plan) -> str:
    cluster, mesh = plan.cluster, plan.mesh
    tensor = f" x {mesh.tensor} tensor-parallel" if mesh.tensor > 1 else ""
    return (
        f"pipeloom: {cluster}, {mesh.pipeline} pipeline stages x {mesh.data} data-parallel{tensor}, {plan.model.name} "
        f"with "
        f"{plan.model.size / 1e6:.1f} M parameters (choose with --nnodes, --nproc_per_node, --nums_split, "
        "--num_hidden_layers, --num_attention_heads)"
    )
