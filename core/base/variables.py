"""The environment variables by which a launcher starts its ranks, and those that users set."""

from __future__ import annotations

import json
from typing import Dict, Mapping, Optional

#: What a launcher (ours, or ``oneflow.distributed.launch``) sets for each rank; importing the engine sets them too.
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE"
#: What a launcher of ours tells its ranks (``core/launch/job.py``).
JOB = "PIPELOOM_JOB"
#: The address at which a rank is reached by the others.
ADDRESS = "PIPELOOM_ADDRESS"
#: The number of the rank's open socket to its launcher.
CONTROL_FD = "PIPELOOM_CONTROL_FD"
#: The number of the open file in which a rank says what it is doing, and leaves its stacks.
TRACE_FD = "PIPELOOM_TRACE_FD"
#: Set by users, to anything: prints the traceback of a plugin's fault before the line about it.
TRACEBACK = "PIPELOOM_TRACEBACK"
#: Set by users: the installed plugins that there are, by name with commas between them; empty for none of them.
LOAD_PLUGINS = "PIPELOOM_LOAD_PLUGINS"
#: Set by users: the folder of the cache.
CACHE = "PIPELOOM_CACHE"

_OF_A_RANK = {*RANK_VARIABLES, LOCAL_WORLD_SIZE, JOB, ADDRESS, CONTROL_FD, TRACE_FD}


def outside_environment(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return ``environment`` without what makes a process a rank, or the launcher of a node.

    For a command that is a job of its own.
    """
    return {
        name: value for name, value in environment.items() if name not in _OF_A_RANK and not name.startswith("SLURM_")
    }


def run_directory(environment: Mapping[str, str]) -> Optional[str]:
    """Return the run directory in a rank of our launcher, ``None`` in other processes."""
    try:
        return json.loads(environment[JOB])["directory"] if "RANK" in environment else None
    except (KeyError, ValueError, TypeError):
        return None
