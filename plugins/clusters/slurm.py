"""slurm: a launcher that ``srun --ntasks-per-node=1`` has started on each of several nodes knows its place.

The variables are those of https://slurm.schedmd.com/srun.html; those of the step come first, since a step may have
fewer nodes than its job, and SLURM_NODEID counts inside the step.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.cluster_options import ClusterOptions

_FIRST_PORT, _PORTS = 20000, 6000


def options_from_slurm(environment: Mapping[str, str], given: Mapping[str, Any]) -> Dict[str, Any]:
    """The options of the cluster by the environment of an srun step of several nodes; none outside of such a step.

    ``given`` are the options that were given otherwise; those with a value are left alone. With ``--nnodes 1`` each
    node is on its own, and nothing is taken. Raises ``UsageError`` when srun started several launchers on a node, and
    for variables that are not as Slurm writes them.
    """
    if "SLURM_PROCID" not in environment or "SLURM_NODEID" not in environment:
        return {}
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    wanted = {name: value for name, value in given.items() if value is not None}
    if nodes is None or nodes < 2 or wanted.get("nnodes") == 1:
        return {}
    _refuse_several_launchers(environment)
    taken: Dict[str, Any] = {"nnodes": nodes, "node_rank": _number(environment, "SLURM_NODEID")}
    hosts = (
        environment.get("SLURM_STEP_NODELIST")
        or environment.get("SLURM_JOB_NODELIST")
        or environment.get("SLURM_NODELIST")
    )
    if hosts:
        taken["master_addr"] = expand_hosts(hosts)[0]
    job = _number(environment, "SLURM_JOB_ID", "SLURM_JOBID")
    if job is not None:
        taken["master_port"] = port_of_job(job)
    gpus = _number(environment, "SLURM_GPUS_ON_NODE")
    if gpus and wanted.get("device") != "cpu":
        taken["nproc_per_node"] = gpus
    return {name: value for name, value in taken.items() if name not in wanted}


def port_of_job(job: int) -> int:
    """An even port below the kernel's range for outgoing connections, the same on all nodes of a job.

    Even, because the one after it is used as well: two jobs that share a node never get neighbouring ports.
    """
    return _FIRST_PORT + 2 * (job % _PORTS)


def _refuse_several_launchers(environment: Mapping[str, str]) -> None:
    counts = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or "1"
    several = [int(count) for count in re.findall(r"(?:^|,)(\d+)", counts) if int(count) > 1]  # "2(x3),1" is 2, 2, 2, 1
    if several or environment.get("SLURM_LOCALID", "0") != "0":
        raise UsageError(
            f"srun started {max(several, default=2)} launchers on a node: one is enough, it starts the ranks itself; "
            "use srun --ntasks-per-node=1 (and --nproc_per_node for the number of ranks)"
        )


def _number(environment: Mapping[str, str], *names: str) -> Optional[int]:
    """The first of the variables that is set, as a number."""
    for name in names:
        text = environment.get(name)
        if text:
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise UsageError(
                    f"{name}={text} in the environment is not a number: is this really an srun step? (give --nnodes 1 "
                    f"to ignore it)"
                )
            return int(text)
    return None


def expand_hosts(text: str) -> List[str]:
    """The hosts of a Slurm host list, in its order: ``n[001-003,7],gpu2`` is n001, n002, n003, n7, gpu2.

    A name may have several brackets (``rack[1-2]node[1-2]``), of which the last runs fastest. Raises ``UsageError`` for
    a text that is no such list, and for one of more than 65536 hosts.
    """
    hosts: List[str] = []
    for item in _split(text):
        names = [""]
        for outside, inside in re.findall(r"([^\[\]]+)|\[([^\[\]]*)\]", item):
            pieces = [outside] if outside else _numbers(inside, text)
            if len(names) * len(pieces) + len(hosts) > 1 << 16:
                raise _no_list(text)
            names = [name + piece for name in names for piece in pieces]
        hosts += names
    if not hosts:
        raise _no_list(text)
    return hosts


def _split(text: str) -> List[str]:
    """``text`` at its commas outside of brackets."""
    if not re.fullmatch(r"(?:[^\[\],\s]|\[[\d,-]+\])+(?:,(?:[^\[\],\s]|\[[\d,-]+\])+)*", text):
        raise _no_list(text)
    return re.findall(r"(?:[^\[\],]|\[[^\]]*\])+", text)


def _numbers(ranges: str, text: str) -> List[str]:
    """``001-003,7`` -> 001, 002, 003, 7: a range keeps the digits of its first number."""
    numbers: List[str] = []
    for piece in ranges.split(","):
        found: Optional[Tuple[str, str]] = None
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", piece)
        if match:
            found = (match.group(1), match.group(2) or match.group(1))
        if found is None or not 0 <= int(found[1]) - int(found[0]) < 1 << 16:
            raise _no_list(text)
        first, last = found
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers


def _no_list(text: str) -> UsageError:
    return UsageError(
        f"the node list of Slurm, '{text}', cannot be read: give --master_addr, the address of the first node"
    )


@pipeloom.hookimpl
def pipeloom_cluster_options(environment, given):
    return ClusterOptions("Slurm", options_from_slurm(environment, given))
