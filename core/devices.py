"""How many GPUs this host offers, found without importing the engine (which costs 0.8 s and 300 MB)."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")


def count_gpus() -> int:
    """The number of GPUs that a process started now would see; 0 without any. Raises nothing.

    ``CUDA_VISIBLE_DEVICES`` decides when it is set (empty or ``-1``: none; as in CUDA, what follows an
    invalid entry is not seen). Otherwise the driver's list in ``/proc``, otherwise ``nvidia-smi -L``.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return _count_visible(visible)
    try:
        return sum(1 for _ in _DRIVER_GPUS.iterdir())
    except OSError:
        return _count_by_nvidia_smi()


def _count_visible(value: str) -> int:
    count = 0
    for entry in value.split(","):
        entry = entry.strip()
        if not entry or entry.startswith("-"):
            break
        count += 1
    return count


def _count_by_nvidia_smi() -> int:
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        answer = subprocess.run(
            [command, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith(b"GPU ") for line in answer.stdout.splitlines())
