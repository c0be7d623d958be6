"""Checks that start the engine: its import, and two ranks that add up a number each. In processes of their own, with a
limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

import pipeloom
from pipeloom.core.base.variables import outside_environment
from pipeloom.core.contract.executor import Executor
from pipeloom.core.contract.topology import Cluster
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.launch.interpreter import bearable
from pipeloom.core.launch.network import local_fault
from pipeloom.core.launch.ports import free_port, port_listens
from pipeloom.core.launch.processes import RankProcess, identity_variables, rank_environment
from pipeloom.plugins.commands.doctor.finding import Finding, bad, ok
from pipeloom.plugins.commands.doctor.software import INSTALL

IMPORT_SECONDS, RANKS_SECONDS = 60.0, 90.0


def default_executor() -> Executor:
    """Return the engine that runs have by default."""
    return PluginManager().hook.pipeloom_executor(config=None)


def engine(seconds: float = IMPORT_SECONDS) -> Finding:
    fault, last = _run(default_executor().import_probe, _environment(), "the import of OneFlow", seconds)
    if fault:
        return fault
    return (
        ok(f"OneFlow {last}")
        if last == "0.9.0"
        else bad(f"OneFlow {last} is not 0.9.0, for which this is written: {INSTALL}")
    )


def products(seconds: float = IMPORT_SECONDS) -> Finding:
    """Compute products as the only rank of a CPU job does."""
    alone = default_executor().environment(_environment(), Cluster(1, 1, "cpu"))
    fault, last = _run(default_executor().product_probe, rank_environment(alone), "a product", seconds)
    return fault or ok(last)


def _run(program: str, environment: Mapping[str, str], what: str, seconds: float) -> Tuple[Optional[Finding], str]:
    """Run a probe; return what is bad about it, and the last line that it printed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return bad(f"{what} takes more than {seconds:g} s: is the disk of {sys.prefix} slow, or the machine busy?"), ""
    last = _last(done.stdout)
    return (bad(f"{what} ends with {done.returncode}: {last}: {INSTALL}") if done.returncode else None), last


def two_ranks(seconds: float = RANKS_SECONDS, program: Optional[str] = None) -> Finding:
    """Start rank 0 and then rank 1, on this machine; whatever happens, both have ended afterwards."""
    fault = local_fault()
    if fault:
        return bad(f"not started: {fault}")
    program = program or default_executor().exchange_probe
    port, started = free_port(), time.monotonic()
    deadline = started + seconds
    ranks: List[RankProcess] = []
    with tempfile.TemporaryDirectory(prefix="pipeloom-doctor-") as folder:
        try:
            for number in (0, 1):
                env = {
                    **rank_environment(default_executor().environment(_environment())),
                    **identity_variables(number, number, 2, 2, "127.0.0.1", port),
                }
                # Numbered from 1 here: a process 0 would have the console instead of a log.
                ranks.append(RankProcess(number + 1, [sys.executable, "-c", program], env, Path(folder)))
                while (
                    number == 0 and not port_listens(port) and not ranks[0].has_ended() and time.monotonic() < deadline
                ):
                    time.sleep(0.02)
            while not all(rank.has_ended() for rank in ranks) and time.monotonic() < deadline:
                if any(rank.has_ended() and rank.returncode for rank in ranks):
                    time.sleep(0.5)  # the other one may be about to say why
                    break
                time.sleep(0.02)
            return _verdict(ranks, seconds) or ok(
                f"added up over TCP in {time.monotonic() - started:.1f} s, start included"
            )
        finally:
            for rank in ranks:
                rank.kill()
            for rank in ranks:
                rank.reap()


def _verdict(ranks: List[RankProcess], seconds: float) -> Optional[Finding]:
    failed = [(number, rank) for number, rank in enumerate(ranks) if rank.has_ended() and rank.returncode]
    for number, rank in failed:
        return bad(
            f"rank {number} of two failed ({rank.how_it_ended()}): {_last(chr(10).join(rank.last_lines()))}: "
            "see the checks above, and docs/oneflow-notes.md"
        )
    waiting = [str(number) for number, rank in enumerate(ranks) if not rank.has_ended()]
    if waiting:
        return bad(
            f"rank {' and '.join(waiting)} of two did not end within {seconds:g} s: "
            "is a firewall between local ports, or the machine busy?"
        )
    return None


def _environment() -> Dict[str, str]:
    """Return this process's environment for a child that finds this very pipeloom and is no rank of some job."""
    env = bearable(outside_environment(os.environ))
    root = str(Path(pipeloom.__file__).resolve().parent.parent)
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, (root, env.get("PYTHONPATH"))))}


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "it said nothing"
