"""What OneFlow's ranks need to know of the processor, and of each other's use of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Dict


def thread_variables() -> Dict[str, str]:
    """Return the settings for one busy process per core, and for the kernels of matrix products."""
    found = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if _has_avx2_and_fma():
        # OneFlow's OpenBLAS does not know newer AMD processors and takes an SSE kernel: 19-36 instead of 80 GFLOP/s.
        found["OPENBLAS_CORETYPE"] = "HASWELL"
    return found


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may keep busy: those it may run on, and no more than its container has."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # "max": no limit
        return count


def _has_avx2_and_fma() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        with open("/proc/cpuinfo") as f:
            flags = next((line.split() for line in f if line.startswith("flags")), [])
    except OSError:
        return False
    return "avx2" in flags and "fma" in flags
