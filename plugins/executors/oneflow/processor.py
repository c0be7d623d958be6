"""What OneFlow's ranks need to know of the processor, and of each other's use of it."""

from __future__ import annotations

import platform
from typing import Dict


def thread_variables() -> Dict[str, str]:
    """Return the settings for one busy process per core, and for the kernels of matrix products."""
    found = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if _has_avx2_and_fma():
        # OneFlow's OpenBLAS does not know newer AMD processors and takes an SSE kernel: 19-36 instead of 80 GFLOP/s.
        found["OPENBLAS_CORETYPE"] = "HASWELL"
    return found


def _has_avx2_and_fma() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        with open("/proc/cpuinfo") as f:
            flags = next((line.split() for line in f if line.startswith("flags")), [])
    except OSError:
        return False
    return "avx2" in flags and "fma" in flags
