"""The environment variables by which a launcher starts its ranks, and those that users set."""

from __future__ import annotations

from typing import Dict, Mapping

#: What a launcher (ours, or ``oneflow.distributed.launch``) sets for each rank; importing the engine sets them too.
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE"
#: "1" in the ranks of a launcher of ours.
LAUNCHED = "PIPELOOM_LAUNCHED"
#: The run directory, and when the command was given (Unix time).
RUN_DIR, STARTED = "PIPELOOM_RUN_DIR", "PIPELOOM_STARTED"
#: The address at which a rank is reached by the others.
ADDRESS = "PIPELOOM_ADDRESS"
#: The number of the rank's open socket to its launcher.
CONTROL_FD = "PIPELOOM_CONTROL_FD"
#: The folder to resume from; empty or absent: from the beginning.
RESUME = "PIPELOOM_RESUME"
#: Set by users, to anything: prints the traceback of a plugin's fault before the line about it.
TRACEBACK = "PIPELOOM_TRACEBACK"
#: Set by users: the folder of the cache.
CACHE = "PIPELOOM_CACHE"

_OF_A_RANK = {*RANK_VARIABLES, LOCAL_WORLD_SIZE, LAUNCHED, RUN_DIR, STARTED, ADDRESS, CONTROL_FD, RESUME}


def outside_environment(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return ``environment`` without what makes a process a rank, or the launcher of a node.

    For a command that is a job of its own.
    """
    return {
        name: value for name, value in environment.items() if name not in _OF_A_RANK and not name.startswith("SLURM_")
    }
