"""``entry.py [train]``: the launcher of a job, or one of its ranks."""
from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from pipeloom.core.config import Config
from pipeloom.core.errors import UsageError
from pipeloom.core.launcher import LaunchSpec, NodesSpec, free_port, launch
from pipeloom.core.plan import Plan, make_plan
from pipeloom.core.plugin_manager import PluginManager
from pipeloom.core.ports import is_own_address
from pipeloom.core.processes import RANK_VARIABLES
from pipeloom.core.rank import run_rank
from pipeloom.core.run import RUN_DIR, STARTED, choose_directory


def train(config: Config, plugins: PluginManager, arguments: Sequence[str]) -> int:
    """Train, as a rank if this process is one, else by starting the ranks; returns the exit code."""
    if all(name in os.environ for name in RANK_VARIABLES):
        return run_rank(lambda: _be_rank(config, plugins))
    return _start_ranks(config, plugins, list(arguments))


def _be_rank(config: Config, plugins: PluginManager) -> int:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if RUN_DIR in os.environ:  # our launcher: it has resolved the cluster from the same options
        plan = make_plan(config, plugins)
        directory = Path(os.environ[RUN_DIR])
    else:
        plan = make_plan(config, plugins, world_size, int(os.environ["LOCAL_RANK"]) != rank)
        directory = choose_directory(config.output_dir, config.plugins, shared=rank != 0)
    if plan.cluster.size != world_size:
        raise UsageError(f"{world_size} ranks were launched, but {plan.cluster} has {plan.cluster.size}: "
                         "give --nnodes and --nproc_per_node")
    from pipeloom.core.trainer import train_in_rank  # imports oneflow

    return train_in_rank(plan, plugins, directory, rank)


def _start_ranks(config: Config, plugins: PluginManager, arguments: List[str]) -> int:
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
        for line in plan.hints():
            print(line, flush=True)
    directory = choose_directory(config.output_dir, config.plugins, shared=0 not in ranks)
    # OneFlow tells machines apart by their addresses: ranks of a "node" on the host of node 0 are the further ones of
    # that machine, and an engine that is told otherwise dies of a variable that it looks for on another rank.
    first_local_rank = ranks[0] if not cluster.logical and is_own_address(address) else 0
    return launch(LaunchSpec(
        command=[sys.executable, str(Path(sys.argv[0]).resolve()), "train", *arguments], ranks=list(ranks),
        world_size=cluster.size, nproc_per_node=cluster.devices_per_node, master_addr=address, master_port=port,
        log_dir=directory / "logs", first_local_rank=first_local_rank, env={RUN_DIR: str(directory), STARTED: repr(started)},
        nodes=_nodes(plan, address, port, plugins), choose_resume=lambda: None, **_limits(plan)))


def _limits(plan: Plan) -> Dict[str, Any]:
    """What a hang is, and how a restart goes: fields of a ``LaunchSpec``."""
    config = plan.config
    return {"step_timeout": config.step_timeout, "max_restarts": config.max_restarts,
            "port_is_free_to_choose": config.master_port is None and (plan.cluster.logical or plan.cluster.nodes == 1)}


def _nodes(plan: Plan, address: str, port: int, plugins: PluginManager) -> Optional[NodesSpec]:
    """This node among several with a launcher each; ``None`` when all ranks are on this host."""
    config, cluster = plan.config, plan.cluster
    if cluster.logical or cluster.nodes == 1:
        return None
    if port == 65535:
        raise UsageError("--master_port 65535: the launchers of the nodes meet on the port after it; choose a lower one")
    return NodesSpec(config.node_rank, cluster.nodes, cluster.devices_per_node, address, port + 1, config.node_timeout,
                     config.heartbeat_timeout, _identity(plan, plugins))


def _identity(plan: Plan, plugins: PluginManager) -> Dict[str, str]:
    try:
        from pipeloom.core.identity import identity
    except ImportError:
        return {}
    return identity(plan, plugins)


def _master(plan: Plan):
    """Address and port of rank 0."""
    config = plan.config
    if plan.cluster.logical or plan.cluster.nodes == 1:
        if config.master_addr not in (None, "127.0.0.1", "localhost") and plan.cluster.nodes > 1:
            raise UsageError(f"--master_addr {config.master_addr} without --node_rank: say which of the {plan.cluster.nodes} nodes "
                             "this is (--node_rank 0 ...), or leave --master_addr out to run all of them here")
        return config.master_addr or "127.0.0.1", config.master_port or free_port()
    if config.master_addr is None:
        raise UsageError(f"{plan.cluster.nodes} nodes need --master_addr, the address of node 0 "
                         "(or leave --node_rank out to run logical nodes on this host)")
    return config.master_addr, config.master_port or 29500


def _chosen(plan: Plan) -> str:
    cluster, mesh = plan.cluster, plan.mesh
    tensor = f" x {mesh.tensor} tensor-parallel" if mesh.tensor > 1 else ""
    return (f"pipeloom: {cluster}, {mesh.pipeline} pipeline stages x {mesh.data} data-parallel{tensor}, {plan.model.name} with "
            f"{plan.model.size / 1e6:.1f} M parameters (choose with --nnodes, --nproc_per_node, --nums_split, "
            "--num_hidden_layers, --num_attention_heads)")
