"""``entry.py doctor``: looks whether this machine can train, a line per check, before a run finds out the hard way.

Exit code 0 when no check went badly, else 1; a note is no failure. Run it on every machine of a cluster.
"""

from __future__ import annotations

from typing import Callable, Iterator, List, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.commands import Command
from pipeloom.plugins.commands.doctor.finding import BAD, NOTE, Finding, bad

OPTIONS = ("--no_engine",)


def doctor(arguments: Sequence[str]) -> int:
    """Print a line per check, the quick ones first; returns 0 when none is bad, else 1.

    ``--no-engine`` leaves out what starts OneFlow. Raises ``UsageError`` for any other argument.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(
            __doc__.strip()
            + "\n\noptions:\n  --no-engine   leave out what starts OneFlow: its import, products, and two ranks that "
            "add up a number each"
        )
        return 0
    given = [argument.replace("-", "_").replace("__", "--", 1) for argument in arguments]
    for argument, meant in zip(arguments, given):
        if meant not in OPTIONS:
            raise UsageError(f"'doctor' has no option '{argument}'{did_you_mean(meant, OPTIONS)}; it has --no-engine")
    counts = {BAD: 0, NOTE: 0}
    for name, check in checks("--no_engine" not in given):
        finding = run_check(check)
        counts[finding.status] = counts.get(finding.status, 0) + 1
        print(f"{finding.status:<5} {name:<14} {' '.join(finding.text.split())}", flush=True)
    total = sum(counts.values())
    if counts[BAD]:
        print(f"{counts[BAD]} of {total} checks went badly: what to do stands in their lines")
        return 1
    print(f"all {total} checks went well" + (f", {counts[NOTE]} with a note" if counts[NOTE] else ""))
    return 0


def checks(engine: bool) -> Iterator[Tuple[str, Callable[[], Finding]]]:
    """The checks in their order; each room is entered only when its first check is due."""
    from pipeloom.plugins.commands.doctor import connections, machine, software

    quick: List[Tuple[str, Callable[[], Finding]]] = [
        ("python", software.python),
        ("libraries", software.libraries),
        ("cuda libraries", software.cuda_libraries),
        ("plugins", software.plugins),
        ("devices", machine.devices),
        ("cpu", machine.cpu),
        ("memory", machine.memory),
        ("shared memory", machine.shared_memory),
        ("limits", machine.limits),
        ("run folder", machine.run_folder),
        ("cache", machine.cache),
        ("clock", machine.clock),
        ("network", connections.network_cards),
        ("loopback", connections.loopback),
        ("ports", connections.ports),
        ("host name", connections.host_name),
        ("proxy", connections.proxy),
    ]
    yield from quick
    if engine:
        from pipeloom.plugins.commands.doctor import ranks

        yield "engine", ranks.engine
        yield "products", ranks.products
        yield "two ranks", ranks.two_ranks


def run_check(check: Callable[[], Finding]) -> Finding:
    """What ``check`` finds; a check that fails itself is a bad finding, whatever it ran into."""
    try:
        return check()
    except (Exception, SystemExit) as error:
        return bad(f"this could not be looked at: {type(error).__name__}: {error}")


COMMAND = Command("doctor", "look whether this machine can train", doctor)
