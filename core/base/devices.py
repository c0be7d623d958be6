"""The GPUs that a process started now would see, found without importing the engine (which costs 0.8 s and 300 MB).

The driver's library is asked: it alone knows what ``CUDA_VISIBLE_DEVICES`` means (numbers, UUIDs and their beginnings,
MIG instances, Slurm's NoDevFiles), and counts what exists. A process of its own asks, since the library may crash, or
keep one waiting. Where there is no such library there is no GPU for the engine, and no process is started.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Compute capabilities that the engine's wheel (OneFlow 0.9.0, CUDA 11.7) has machine code for; such code runs on GPUs
#: of the same major version and the same or a higher minor one. It has no PTX, which a driver could compile for others.
CODE_FOR = ((6, 0), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6))
#: The lowest driver that runs programs of any CUDA 11 ("minor version compatibility"), as cuDriverGetVersion says it.
_LOWEST_DRIVER, _NEEDS = 11000, "CUDA 11.7 needs driver 450.80.02 or newer"
_SECONDS = 60.0  # eight GPUs that nothing holds awake take half of that
_DEV = Path("/dev")
#: How the first entry of CUDA_VISIBLE_DEVICES must begin to be one.
_FIRST = re.compile(r"\s*(\d|GPU-|MIG-)")
#: Results of cuInit that mean: no GPU, and nothing is wrong with that.
_NO_DEVICE = 100


@dataclass(frozen=True)
class Gpu:
    """One device: its compute capability, its memory in bytes, and what CUDA_VISIBLE_DEVICES calls it."""

    name: str
    capability: Tuple[int, int]
    memory: int
    visible_as: str

    @property
    def has_code(self) -> bool:
        """Whether the engine has machine code for it."""
        major, minor = self.capability
        return any(major == code_major and minor >= code_minor for code_major, code_minor in CODE_FOR)

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.capability[0]}.{self.capability[1]}"


@dataclass(frozen=True)
class Gpus:
    """Those that are visible, in the engine's order. ``fault``: why none of them can be used, where one reason is
    all's.
    """

    devices: Tuple[Gpu, ...] = ()
    fault: str = ""

    def usable(self) -> List[Gpu]:
        """Those that the engine can run on."""
        return [gpu for gpu in self.devices if gpu.has_code and not self.fault]

    def trouble(self, count: Optional[int] = None) -> str:
        """Why the first ``count`` of them (default: all) cannot be trained on, and what to do; empty if they can."""
        unusable = [(number, gpu) for number, gpu in enumerate(self.devices[:count]) if not gpu.has_code]
        if self.fault and (not self.devices or any(gpu.has_code for gpu in self.devices)):  # a driver makes no code
            return f"{self.fault}; or use --device cpu, or hide the GPUs by {VISIBLE}="
        if not unusable:
            return ""
        number, gpu = unusable[0]
        others = f" (and {len(unusable) - 1} more)" if len(unusable) > 1 else ""
        if self.usable():
            others_only = ",".join(gpu.visible_as for gpu in self.usable())
            instead = f"leave it out by {VISIBLE}={others_only}, or use --device cpu"
        else:
            instead = f"use another GPU, or --device cpu (or {VISIBLE}=)"
        return (
            f"GPU {number} ({gpu}){others} cannot run OneFlow 0.9.0, which has code for "
            f"{', '.join(f'{major}.{minor}' for major, minor in CODE_FOR)} (Pascal to Ampere and Ada): {instead}"
        )


def count_gpus() -> int:
    """The number of GPUs that a process started now would see, usable or not; 0 without any. Raises nothing."""
    found = find_gpus()
    return len(found.devices) or bool(found.fault)


def resolve_device(asked: str) -> str:
    """``cpu`` or ``cuda``, where "auto" takes the GPUs that there are. Raises ``UsageError`` for "cuda" without any."""
    if asked == "cpu":
        return "cpu"
    if count_gpus():
        return "cuda"
    if asked == "cuda":
        visible = os.environ.get(VISIBLE)
        hidden = f" that {VISIBLE}={visible} lets it see" if visible else ""
        raise UsageError(f"--device cuda: this machine has no GPU{hidden}; use --device cpu")
    return "cpu"


def check_gpus(count: int) -> None:
    """Raise ``UsageError`` if the engine cannot run on the first ``count`` GPUs, which must be there."""
    trouble = find_gpus().trouble(count)
    if trouble:
        raise UsageError(trouble)


def hide_gpus() -> None:
    """Keep the engine, imported from now on in this process, from touching any GPU: it computes on the CPU.

    Else it would take memory of the first one, and fail with one that it has no code for.
    """
    os.environ[VISIBLE] = ""


def find_gpus() -> Gpus:
    """The GPUs that are visible by the environment as it is now. Raises nothing; the answer is kept."""
    return _find(os.environ.get(VISIBLE), os.environ.get("CUDA_DEVICE_ORDER"), os.environ.get("LD_LIBRARY_PATH"))


@lru_cache(maxsize=None)
def _find(visible: Optional[str], *_: Optional[str]) -> Gpus:
    if visible is not None and not _FIRST.match(visible):
        return Gpus()  # "", -1, NoDevFiles, all: whatever follows an invalid entry is not seen
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return _without_driver_library()
    return understand(ask_driver(), visible)


def understand(answer: Mapping[str, Any], visible: Optional[str] = None) -> Gpus:
    """The GPUs by an ``answer`` of :func:`ask_driver`; ``visible``: the value of CUDA_VISIBLE_DEVICES."""
    nodes = _device_files()
    if "fault" in answer or answer["result"] not in (0, _NO_DEVICE):
        said = answer.get("fault") or f"cuInit fails with {answer['result']} ({answer['error']})"
        if not nodes:
            return Gpus()  # a login node may well have the library and nothing to drive
        return Gpus((), f"{_gpus(nodes)} and a driver that does not answer: {said}; see what nvidia-smi says")
    names = [name.strip() for name in visible.split(",")] if visible is not None else []
    devices = [
        Gpu(name, (major, minor), memory, names[number] if number < len(names) else str(number))
        for number, (name, major, minor, memory) in enumerate(answer["devices"])
    ]
    version = answer["driver"]
    if devices and version < _LOWEST_DRIVER:
        of_driver = f"{version // 1000}.{version % 1000 // 10}"
        return Gpus(tuple(devices), f"the NVIDIA driver is for CUDA {of_driver} at most, and {_NEEDS}: update it")
    return Gpus(tuple(devices))


def _device_files() -> int:
    """How many GPUs have a device file here: one for each, or (Windows' Linux) one for all."""
    return sum(1 for pattern in ("nvidia[0-9]*", "dxg") for _ in _DEV.glob(pattern))


def _without_driver_library() -> Gpus:
    """What looks like GPUs nevertheless: device files, or a tool that lists some."""
    listed = _run([shutil.which("nvidia-smi") or "", "-L"]).splitlines()
    count = _device_files() or sum(line.startswith("GPU ") for line in listed)
    if not count:
        return Gpus()
    return Gpus(
        (),
        f"{_gpus(count)}, but no driver library libcuda.so.1: install the NVIDIA driver (in a container: "
        "run it with --gpus all, and NVIDIA_DRIVER_CAPABILITIES=compute,utility)",
    )


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count != 1)}"


def ask_driver() -> Mapping[str, Any]:
    """What libcuda says in a process of its own: the ``result`` of cuInit and the name of that ``error``, the version
    of the ``driver``, ``devices`` as ``(name, major, minor, bytes)``; or, in the place of all that, a ``fault``."""
    answer = _run([sys.executable, "-I", "-S", "-c", _PROGRAM])
    try:
        return json.loads(answer)
    except ValueError:
        return {"fault": f"it crashes or takes more than {_SECONDS:g} s"}


def _run(command: Sequence[str]) -> str:
    """What a command prints; nothing if it cannot be run, fails, or takes too long."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


#: Numbers of attributes and signatures by cuda.h; they have been the same since CUDA 5.
_PROGRAM = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
value, text = ctypes.c_int(), ctypes.c_char_p()
answer = {"result": cuda.cuInit(0), "error": "", "driver": 0, "devices": []}
if answer["result"]:
    cuda.cuGetErrorName(answer["result"], ctypes.byref(text))
    answer["error"] = (text.value or b"unknown").decode("ascii", "replace")
else:
    cuda.cuDriverGetVersion(ctypes.byref(value))
    answer["driver"] = value.value
    cuda.cuDeviceGetCount(ctypes.byref(value))
    for number in range(value.value):
        device, name, memory, capability = ctypes.c_int(), ctypes.create_string_buffer(200), ctypes.c_size_t(), []
        cuda.cuDeviceGet(ctypes.byref(device), number)
        cuda.cuDeviceGetName(name, 200, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        for attribute in (75, 76):     # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability.append(value.value)
        answer["devices"].append((name.value.decode("ascii", "replace"), *capability, memory.value))
print(json.dumps(answer))
"""
