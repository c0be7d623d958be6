"""How much memory a new process of this machine may take, by the kernel and by the limits of its control group."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pipeloom.core.base.devices import find_gpus

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: What a control group of version 1 has where there is no limit is about this, or more.
_NO_LIMIT = 1 << 60


class Room(NamedTuple):
    """Bytes: ``free``: those that can be had without swapping, ``swap``: more, slowly. ``limited_by``: what says so."""

    free: int
    swap: int = 0
    limited_by: str = "this machine"


def find_room() -> Optional[Room]:
    """Return what is free here for processes that start now; ``None`` where the kernel does not say."""
    machine = _numbers(_PROC / "meminfo", ":")
    if "MemAvailable" not in machine:
        return None
    room = Room(machine["MemAvailable"] * 1024, machine.get("SwapFree", 0) * 1024)
    for free in _group_rooms():
        if free < room.free + room.swap:
            room = Room(min(free, room.free), max(0, min(room.swap, free - room.free)), "its control group")
    return room


def rooms(device_type: str, ranks: Sequence[int]) -> List[Tuple[Sequence[int], Room]]:
    """Return the room of ``ranks``, which are all on this machine: one for all of them, or that of each one's GPU.

    What is not known is left out.
    """
    if device_type == "cpu":
        room = find_room()
        return [] if room is None else [(list(ranks), room)]
    gpus = find_gpus().devices
    return [
        ([rank], Room(gpu.memory, limited_by=f"GPU {number}")) for number, (rank, gpu) in enumerate(zip(ranks, gpus))
    ]


def _group_rooms() -> Iterator[int]:
    """Yield what each control group of this process, and each above it, leaves free."""
    for line in _lines(_PROC / "self" / "cgroup"):
        number, kinds, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" and not kinds:
            root, limit, used, cache = _CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in kinds.split(","):
            root = _CGROUPS / "memory"
            limit, used, cache = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        names = [name for name in path.split("/") if name not in ("", "..")]
        # In a container the path may be the host's; what is mounted is then the container's own group.
        for count in range(len(names), -1, -1):
            folder = root.joinpath(*names[:count])
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None and most < _NO_LIMIT:
                # Files that were read stay in memory until something else needs it.
                yield max(0, most - now + _numbers(folder / "memory.stat", " ").get(cache, 0))


def _number(path: Path) -> Optional[int]:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None  # "max": no limit


def _numbers(path: Path, separator: str) -> Dict[str, int]:
    """Return the numbers of a file of lines ``name, separator, number``."""
    found = {}
    for line in _lines(path):
        name, _, rest = line.partition(separator)
        first = rest.split()[:1]
        if first and first[0].isdecimal():
            found[name] = int(first[0])
    return found


def _lines(path: Path) -> List[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
