"""What the engine's plan says of memory, per rank: variables by kind, and the registers that are alive at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Sequence

from pipeloom.core.base.variables import outside_environment

ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).resolve().parent / "memory_probe.py"


@dataclass
class RankMemory:
    """Bytes of one rank. ``parameters``, ``masters`` and ``optimizer`` are variables of the plan.

    ``registers``: what operations put out, all of it: what the CPU engine holds, which shares no memory between them.
    ``live``: the most of it that is alive at once in the plan's order: what an engine that shares needs at the least.
    ``blocks``: all that the plan allocates, variables and registers. ``rss``, ``peak``: the process at its end and at
    its largest.
    """

    parameters: int = 0
    masters: int = 0
    optimizer: int = 0
    registers: int = 0
    live: int = 0
    blocks: int = 0
    rss: int = 0
    peak: int = 0
    _events: Dict[int, int] = field(default_factory=dict, repr=False)


def measure(flags: Sequence[str], plugins: str = "inter_first,bert,wiki_ofrecord") -> Dict[int, RankMemory]:
    """Train three steps with ``flags`` and read the plan. Raises ``RuntimeError`` with the output when that fails."""
    with tempfile.TemporaryDirectory(prefix="pipeloom-memory-") as temporary:
        folder = Path(temporary)
        ranks = read_plan(leave_plan(folder, [*flags, "--train_steps", "3"], plugins))
        for rank, memory in ranks.items():
            memory.rss = 1024 * int((folder / f"rss_{rank}").read_text())
            memory.peak = 1024 * int((folder / f"peak_{rank}").read_text())
        return ranks


def leave_plan(folder: Path, flags: Sequence[str], plugins: str) -> Path:
    """Train with ``flags`` and return where, in ``folder``, the engine has written its plan.

    Raises ``RuntimeError`` with the output when that fails.
    """
    command = [
        sys.executable,
        str(ROOT / "entry.py"),
        "--plugins",
        f"{plugins},{PROBE}",
        *flags,
        "--output_dir",
        str(folder / "run"),
    ]
    env = {**outside_environment(os.environ), "GLOG_log_dir": str(folder), "PIPELOOM_LAB_FOLDER": str(folder)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode:
        raise RuntimeError(done.stdout)
    return next(folder.rglob("job_PipelineGraph_0_plan"))


def parse_plan(path: Path):
    """The ``plan_pb2.Plan`` that the engine has written in text form."""
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    import_oneflow()
    from google.protobuf import text_format
    from oneflow.core.job import plan_pb2

    return text_format.Parse(path.read_text(), plan_pb2.Plan())


def read_plan(path: Path) -> Dict[int, RankMemory]:
    """The memory of each rank by a plan in text form."""
    plan = parse_plan(path)
    ranks: Dict[int, RankMemory] = {}
    blocks = {block.mem_block_id: block for block in plan.block_chunk_list.mem_block}
    for block in blocks.values():
        memory, name = ranks.setdefault(block.machine_id, RankMemory()), block.variable_op_name
        memory.blocks += block.mem_size
        if name.endswith(("-m", "-v", "-momentum")):
            memory.optimizer += block.mem_size
        elif name.startswith("mirrors."):
            memory.masters += block.mem_size
        elif name.startswith("stages."):
            memory.parameters += block.mem_size
    order = {task.task_id: task.task_set_info.order_in_graph for task in plan.task}
    for task in plan.task:
        memory = ranks.setdefault(task.machine_id, RankMemory())
        for register in task.produced_regst_desc.values():
            block = blocks.get(register.mem_block_id)
            if block is None or not register.enable_reuse_mem or block.variable_op_name:
                continue
            first = order[task.task_id]
            last = max((order[consumer] for consumer in register.consumer_task_id), default=first)
            memory.registers += block.mem_size
            memory._events[first] = memory._events.get(first, 0) + block.mem_size
            memory._events[last + 1] = memory._events.get(last + 1, 0) - block.mem_size
    for memory in ranks.values():
        memory.live = _peak([memory._events[moment] for moment in sorted(memory._events)])
    return ranks


def _peak(changes: List[int]) -> int:
    most = now = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most
