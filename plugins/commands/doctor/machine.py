"""Checks of the machine: devices, processor, memory, disks, limits, clock."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Optional

from pipeloom.core.base.devices import VISIBLE, count_gpus, find_gpus
from pipeloom.plugins.commands.doctor.finding import Finding, bad, note, ok
from pipeloom.plugins.commands.doctor.ranks import default_executor

_GB = 1e9
#: Memory of a rank of a small model; a rank of OneFlow takes 0.34 GB before it does anything.
_RANK_BYTES = 0.6 * _GB
_LITTLE_SPACE, _NO_SPACE = 2 * _GB, 0.1 * _GB
#: What NCCL and Docker's default of 64 MB go badly together by.
_SHARED_BYTES = 256e6
_OPEN_FILES = 1024
_MOST_SECONDS_OFF = 10.0


def devices() -> Finding:
    found, visible = find_gpus(), os.environ.get(VISIBLE)
    trouble = found.trouble()
    if trouble:
        return note(trouble) if found.usable() else bad(trouble)
    if found.devices:
        each = [f"{gpu}, {gpu.memory / _GB:.0f} GB" for gpu in found.devices]
        return ok(f"{len(each)} GPU{'s' * (len(each) != 1)}: {'; '.join(each)}")
    hidden = f" ({VISIBLE}={visible} names none that is here)" if visible else ""
    return ok(f"no GPU: CPU processes stand for devices{hidden}")


def cpu() -> Finding:
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} core{'s' * (cores != 1)}"
    if "OPENBLAS_CORETYPE" not in default_executor().environment({}):
        return note(f"{found}, without AVX2 and FMA: products take a slow kernel, at a quarter of the speed and less")
    if not count_gpus() and cores < 4:
        return note(
            f"{found} with AVX2 and FMA: the four ranks of a default run share them; --nproc_per_node "
            f"{max(1, cores // 2)} gives each one"
        )
    return ok(f"{found} with AVX2 and FMA")


def memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Finding:
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    total, free = (1024 * int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    limit = _limit_of_container(cgroup)
    where = ""
    if limit is not None and limit < total:
        total, free, where = limit, min(free, limit), " (the limit of this container)"
    ranks = int(free / _RANK_BYTES)
    found = f"{free / _GB:.1f} of {total / _GB:.1f} GB{where} free"
    if ranks < 1:
        return bad(f"{found}: a rank takes {_RANK_BYTES / _GB:g} GB at least; end what else runs here")
    if ranks < 4:
        return note(f"{found}: enough for {ranks} ranks of a small model; lower --nnodes or --nproc_per_node")
    return ok(found)


def _limit_of_container(cgroup: Path) -> Optional[int]:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    if not folder.is_dir():
        return bad(f"no {folder}: mount a tmpfs there; NCCL and OneFlow exchange data of one machine by it")
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e6:.0f} MB free in {folder}"
    if free < _SHARED_BYTES:
        advice = f"{found}: in a container start it with --shm-size=1g, else remove old files there"
        return bad(advice) if count_gpus() else note(advice + " (without GPUs it is hardly used)")
    return ok(found)


def limits() -> Finding:
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < _OPEN_FILES:
        how = (
            f"ulimit -n {_OPEN_FILES}"
            if hard < 0 or hard >= _OPEN_FILES
            else "raise the hard limit in /etc/security/limits.conf"
        )
        return bad(f"{files} open files at most: {how} (a rank has a map per data part and a connection per rank)")
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:
        return note(
            f"address space is limited to {space / _GB:.1f} GB (ulimit -v): the engine reserves much more than it "
            "uses; ulimit -v unlimited"
        )
    return ok(f"{'any number of' if files < 0 else files} open files")


def run_folder() -> Finding:
    return _folder(Path("runs"), "choose another by --output_dir")


def cache() -> Finding:
    from pipeloom.core.base.cache import cache_root

    return _folder(cache_root(), "choose another by PIPELOOM_CACHE")


def _folder(folder: Path, advice: str) -> Finding:
    """Whether files can be made in ``folder``, or in what there is of its path, and how much space they have."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        return bad(f"{folder} cannot be written ({place}: {error.strerror}): {advice}")
    free = shutil.disk_usage(place).free
    found = f"{free / _GB:.1f} GB free for {folder}"
    if free < _NO_SPACE:
        return bad(f"{found}: make room, or {advice}")
    return note(f"{found}: little for checkpoints; make room, or {advice}") if free < _LITTLE_SPACE else ok(found)


def clock(folder: Path = Path(".")) -> Finding:
    """Compare the clock with the time of a new file: on a shared disk that of its server, which all nodes see."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".pipeloom-clock-") as file:
            file.write(b"x")
            file.flush()
            off = os.stat(file.name).st_mtime - time.time()
    except OSError:
        off = 0.0  # a folder that cannot be written has a check of its own
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.time() < os.stat(__file__).st_mtime - 86400:
        return bad(f"{now}, before this program was installed: set the clock (NTP)")
    if abs(off) > _MOST_SECONDS_OFF:
        return bad(
            f"{now}, {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} that of the disk's server: "
            "set the clocks (NTP)"
        )
    return ok(now)
