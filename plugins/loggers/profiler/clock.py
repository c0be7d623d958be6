"""One clock for the ranks of several machines, from messages between all of them.

A message between all ranks ends on each of them after it has begun on every other one. So of rank ``r``, whose clock
shows ``d`` more than the main rank's, is known from each message (by its begin and its end on both): ``d`` lies between
``begin of r - end of main`` and ``end of r - begin of main``. Of many messages the narrowest bounds hold (the same
reasoning as in Cristian, Probabilistic clock synchronization, 1989).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

#: Messages by which clocks are compared.
ROUNDS = 40


def compare_clocks(collectives: Any, rounds: int = ROUNDS) -> Dict[str, Any]:
    """Return what ``offsets`` needs of this rank; every rank calls it."""
    machine = _machine()
    machines = collectives.all_gather_text(machine)
    messages: List[Tuple[int, int]] = []
    if len(set(machines)) > 1:
        for _ in range(rounds):
            begin = time.perf_counter_ns()
            collectives.all_gather_text("")
            messages.append((begin, time.perf_counter_ns()))
    return {"machine": machine, "messages": messages}


def offsets(ranks: Sequence[Dict[str, Any]]) -> List[Tuple[int, int]]:
    """Return for each rank how much more its clock shows than the main rank's, and how exactly that is known (+-).

    Both in nanoseconds; ``ranks`` are the answers of ``compare_clocks``, the main rank's first.
    """
    main, found = ranks[0], []
    for rank in ranks:
        if rank["machine"] == main["machine"]:
            found.append((0, 0))
            continue
        pairs = list(zip(main["messages"], rank["messages"]))
        least = max(begin - end_of_main for (_, end_of_main), (begin, _) in pairs)
        most = min(end - begin_of_main for (begin_of_main, _), (_, end) in pairs)
        found.append(((least + most) // 2, max(0, most - least + 1) // 2))
    return found


def _machine() -> str:
    """What processes with one clock have in common: the start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import socket

        return socket.gethostname()
