"""An environment of its own that packages are installed into, as wheels; it sees what this one has."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from jobs import ROOT, environment

_OFFLINE = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]


def install_in_own_environment(folder: Path, *sources: Path) -> Path:
    """Build ``sources`` and install their wheels into a new environment in ``folder``; return its Python."""
    venv.create(folder / "env")
    own = next((folder / "env" / "lib").glob("python*/site-packages"))
    (own / "engine.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    copies = []
    for number, source in enumerate(sources):  # pip builds in the folder itself
        copies.append(folder / "sources" / str(number))
        for file in source.rglob("*"):
            if file.suffix in (".py", ".toml", ".md") and "build" not in file.parts:
                copy = copies[-1] / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip"]
    wheels = folder / "wheels"
    build = [*pip, "wheel", *_OFFLINE, "--no-build-isolation", "--wheel-dir", str(wheels), *map(str, copies)]
    subprocess.run(build, check=True, env=environment())
    built = sorted(map(str, wheels.glob("*.whl")))
    assert len(built) == len(sources)
    subprocess.run([*pip, "install", *_OFFLINE, "--target", str(own), *built], check=True, env=environment())
    return folder / "env" / "bin" / "python"
