"""Which BLAS multiplies matrices on a CPU: Intel MKL where its package is installed, else the one in OneFlow's wheel.

``cblas_sgemm`` of the engine's library is a symbol that another library can provide, so one that is preloaded serves
every product. MKL is thread-safe and divides a product over threads; the bundled OpenBLAS does neither.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

#: The variable by which a launcher tells its ranks what it has chosen.
CHOICE = "PIPELOOM_BLAS"
PACKAGE, INSTALL = "mkl", "pip install 'pipeloom[mkl]'"
_PRELOAD = "LD_PRELOAD"
_LIBRARY = re.compile(r"libmkl_rt\.so(\.\d+)*$")
_PROBE_SECONDS = 30.0
#: A product of whole numbers, exact in float32, by what is preloaded; needs nothing but Python.
_PROBE = """
import ctypes
n, numbers = 64, ctypes.c_float * 4096
a, b, c = numbers(*(i * 7 % 13 - 6 for i in range(n * n))), numbers(*(i * 5 % 11 - 5 for i in range(n * n))), numbers()
one, zero = ctypes.c_float(1), ctypes.c_float(0)
ctypes.CDLL(None).cblas_sgemm(101, 111, 111, n, n, n, one, a, n, b, n, zero, c, n)
assert all(c[i * n + j] == sum(a[i * n + k] * b[k * n + j] for k in range(n)) for i in (0, 17, 63) for j in range(n))
"""


@dataclass(frozen=True)
class Blas:
    """What serves products: ``name``, ``threads`` of a rank, the ``library`` to preload ("": none, the bundled one).

    ``reason``: why it is not what one might expect; "" where there is nothing to say.
    """

    name: str
    threads: int = 1
    library: str = ""
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.name}, {self.threads} thread{'s' * (self.threads != 1)} a rank"
        return f"{text} ({self.reason})" if self.reason else text


def bundled(reason: str = "") -> Blas:
    """Return OneFlow's own OpenBLAS."""
    return Blas("OpenBLAS of OneFlow", reason=reason)


def find_mkl() -> Optional[Blas]:
    """Return the installed MKL, by the list of its files; nothing of it is imported or loaded."""
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    name = "MKL " + re.sub(r"(\.0)+$", "", package.version)
    for file in package.files or ():
        if _LIBRARY.search(file.name):
            path = os.path.realpath(str(package.locate_file(file)))
            if os.path.exists(path):
                return Blas(name, library=path)
    return Blas(name, reason=f"the package '{PACKAGE}' has no libmkl_rt.so here")


def choose(threads: int, inherited: Mapping[str, str]) -> Blas:
    """Return MKL with ``threads`` a rank if it is installed and works, else the bundled BLAS and why."""
    found = find_mkl()
    if found is None:
        return bundled()
    if not found.library:
        return bundled(found.reason)
    if re.search(r"[:\s]", found.library):
        return bundled(f"{found.name} cannot be preloaded from {found.library}: no colons or spaces in its path")
    chosen = Blas(found.name, threads, found.library)
    fault = _fault(variables(chosen, inherited), inherited)
    return bundled(f"{found.name} does not work here: {fault}") if fault else chosen


def _fault(settings: Mapping[str, str], inherited: Mapping[str, str]) -> str:
    """Return why a child process with ``settings`` gets no right product; "" where it does."""
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-c", _PROBE],
            env={**settings, **{name: value for name, value in inherited.items() if name != _PRELOAD}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"a product takes more than {_PROBE_SECONDS:g} s"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        return lines[-1][:200] if lines else f"a product ends with {done.returncode}"
    return next((line[:200] for line in lines if "cannot be preloaded" in line), "")


def variables(blas: Blas, inherited: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment by which ``blas`` serves a process."""
    if not blas.library:
        return {CHOICE: json.dumps(asdict(blas))}
    several = "INTEL" if (Path(blas.library).parent / "libiomp5.so").exists() else "GNU"
    return {
        CHOICE: json.dumps(asdict(blas)),
        _PRELOAD: ":".join(filter(None, (inherited.get(_PRELOAD), blas.library))),
        "MKL_THREADING_LAYER": "SEQUENTIAL" if blas.threads == 1 else several,
        "MKL_INTERFACE_LAYER": "LP64",
        "MKL_NUM_THREADS": str(blas.threads),
        "MKL_DYNAMIC": "FALSE",
        # The same bits in every run and by any number of threads, wherever in memory an array begins.
        "MKL_CBWR": "AUTO,STRICT",
    }


def settle() -> Optional[Blas]:
    """Return what serves products here, ``None`` where no launcher of ours chose; what was preloaded for it is kept
    from the children of this process.
    """
    try:
        told = Blas(**json.loads(os.environ.pop(CHOICE)))
    except (KeyError, ValueError, TypeError):
        return None
    if not told.library:
        return told
    _drop(told.library)
    return told if told.library in _loaded() else bundled(f"{told.name} was not preloaded")


def _drop(library: str) -> None:
    entries = [entry for entry in re.split(r"[:\s]+", os.environ.get(_PRELOAD, "")) if entry and entry != library]
    if entries:
        os.environ[_PRELOAD] = ":".join(entries)
    else:
        os.environ.pop(_PRELOAD, None)


def _loaded() -> Sequence[str]:
    """Return the paths of what this process has mapped."""
    try:
        lines: List[str] = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return ()
    return [line.split(None, 5)[5] for line in lines if len(line.split(None, 5)) == 6]
