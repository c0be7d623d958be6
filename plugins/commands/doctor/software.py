"""Checks of Python, the libraries and the plugins; nothing here starts the engine."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from pipeloom.plugins.commands.doctor.finding import Finding, bad, ok

INSTALL = "./run_ppl.sh or pip install -e . in the checkout installs what is needed"

#: Library -> the lowest version, and the one that is too high; as setup.py has them (a test compares).
PINS = {
    "oneflow": ("0.9.0", "0.9.1"),
    "numpy": (None, "2"),
    "protobuf": ("3.20", "4"),
    "setuptools": (None, "82"),
    "pluggy": ("1.0", None),
    "tensorboard": ("2.11", None),
    "tokenizers": (None, None),
    "safetensors": (None, None),
    "rich": (None, None),
    "PyYAML": (None, None),
    "nvidia-cudnn-cu11": (None, "9"),
    "nvidia-cublas-cu11": (None, None),
}

#: What OneFlow's library asks the loader for, on a CPU too: the package that has it, and the file in its folder lib.
_CUDA_FILES = (("nvidia.cudnn", "libcudnn.so.8"), ("nvidia.cublas", "libcublas.so.11"))


def python() -> Finding:
    found = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    if not (3, 8) <= sys.version_info[:2] <= (3, 10) or platform.python_implementation() != "CPython":
        return bad(f"{found}: OneFlow 0.9.0 needs CPython 3.8 to 3.10; ./run_ppl.sh finds one")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return bad(f"{found}: OneFlow 0.9.0 has wheels for Linux on x86_64 only")
    return ok(found)


def libraries(version_of: Callable[[str], str] = metadata.version) -> Finding:
    found, wrong = [], []
    for name, (lowest, too_high) in PINS.items():
        try:
            version = version_of(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if (lowest and _number(version) < _number(lowest)) or (too_high and _number(version) >= _number(too_high)):
            wanted = " and ".join(
                filter(None, (f"at least {lowest}" if lowest else "", f"below {too_high}" if too_high else ""))
            )
            wrong.append(f"{name} {version} must be {wanted}")
    return bad(f"{', '.join(wrong)}: {INSTALL}") if wrong else ok(", ".join(found))


def _number(version: str) -> Tuple[int, ...]:
    return tuple(int(piece) for piece in re.findall(r"\d+", version)[:3])


def cuda_libraries(files: Sequence[Tuple[str, str]] = _CUDA_FILES) -> Finding:
    missing = [file for package, file in files if not _in_package(package, file) and not _loads(file)]
    if missing:
        return bad(f"no {' and no '.join(missing)}, without which OneFlow cannot be imported even on a CPU: {INSTALL}")
    return ok(", ".join(file for _, file in files) + " are there")


def _in_package(package: str, file: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    places: Optional[List[str]] = list(spec.submodule_search_locations or ()) if spec else None
    return any((Path(place) / "lib" / file).exists() for place in places or ())


def _loads(file: str) -> bool:
    try:
        ctypes.CDLL(file)
    except OSError:
        return False
    return True


def plugins() -> Finding:
    """Every built-in plugin and every installed one by itself, so that a broken one is named and hides no other."""
    from pipeloom.core.host.builtin import builtin
    from pipeloom.core.host.discovery import installed_plugins, scan
    from pipeloom.core.host.plugin_manager import PluginManager
    from pipeloom.plugins.commands.plugin_list.listing import examine

    broken, ours = [], builtin()
    for name, module in {**ours.defaults, **ours.selectable}.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            broken.append(f"plugin '{name}' fails to load: {type(error).__name__}: {error}")
    installed = installed_plugins()
    if not broken:
        for name in set(ours.selectable) - set(installed):
            PluginManager().load([name])
        looked_at = [examine(offer) for offers in installed.values() for offer in offers]
        broken = [text for fine, text in looked_at if not fine] + scan()[1]
    if broken:
        return bad("; ".join(broken) + ": repair or uninstall it; other plugins work without it")
    others = f"and the installed {', '.join(sorted(installed))}" if installed else "none installed"
    return ok(f"{len(ours.selectable) + len(ours.defaults)} built-in load, {others}")
