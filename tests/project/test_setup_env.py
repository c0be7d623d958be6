"""scripts/setup_env.sh on a machine without a usable Python: stand-ins for Python, pip and uv, in a folder that is all
of the PATH.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
TOOLS = "bash env ls sort grep sed cat mkdir touch rm rmdir tail sha256sum flock dirname ln cp chmod".split()

# A Python of version $VERSION: is probed, makes environments (unless $WHAT_IS_MISSING has "venv") and installs what it
# is asked to.
PYTHON = """#!/usr/bin/env bash
me=$0 version=VERSION missing="MISSING"
case "$*" in
  *base_executable*) echo "$version $me"; [[ $version == 3.10.* ]] ;;
  *"sys.version_info < (3, 8)"*|*pip.__version__*) true ;;
  *ensurepip*) [[ $missing != *venv* ]] ;;
  *"pip --version"*) [[ $missing != *pip* ]] ;;
  *"-m venv "*) [[ $missing != *venv* ]] || exit 1; mkdir -p "${@: -1}/bin"; cp "$me" "${@: -1}/bin/python" ;;
  *" uv")
      echo "$version: pip $*" >>"$LOG"
      [[ $missing != *network* ]] || { echo "ERROR: no network" >&2; exit 1; }
      [[ $* == *--target* ]] && folder=$(sed 's/.*--target \\([^ ]*\\) .*/\\1/' <<<"$*")/bin || folder=$(dirname "$me")
      mkdir -p "$folder"; cp "$STANDINS/uv" "$folder/uv" ;;
  *"pip install"*) echo "$version: pip install" >>"$LOG" ;;
esac
"""
UV = """#!/usr/bin/env bash
echo "uv $*" >>"$LOG"
case "$1 $2" in
  "python install") [ -z "$UV_FAILS" ] || { printf 'error: first line\\n  cause: no network\\n' >&2; exit 1; }
                    cp "$STANDINS/3.10" "$HOME/python3.10-of-uv" ;;
  "python find") [ -e "$HOME/python3.10-of-uv" ] && echo "$HOME/python3.10-of-uv" ;;
  "venv "*) mkdir -p "${@: -1}/bin"; cp "$STANDINS/3.10" "${@: -1}/bin/python" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A checkout on a machine with the Pythons ``{name: (version, what is missing)}``; runs the script: its code, its
    lines, what was called.
    """
    for folder in ("bin", "standins", "home", "checkout/scripts"):
        (tmp_path / folder).mkdir(parents=True)
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    for name in ("scripts/setup_env.sh", "setup.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)

    def put(path, text):
        path.write_text(text)
        path.chmod(0o755)

    put(tmp_path / "standins/uv", UV)
    put(tmp_path / "standins/3.10", PYTHON.replace("VERSION", "3.10.9").replace("MISSING", ""))

    def run(pythons, **environment):
        for name, (version, missing) in pythons.items():
            put(tmp_path / "bin" / name, PYTHON.replace("VERSION", version).replace("MISSING", missing))
        log = tmp_path / "log"
        log.write_text("")
        env = {
            "PATH": str(tmp_path / "bin"),
            "HOME": str(tmp_path / "home"),
            "LOG": str(log),
            "STANDINS": str(tmp_path / "standins"),
        }
        done = subprocess.run(
            [str(tmp_path / "bin/bash"), str(tmp_path / "checkout/scripts/setup_env.sh")],
            env={**env, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines(), log.read_text()

    run.folder = tmp_path
    return run


def test_a_newer_python_brings_uv_and_uv_a_3_10(machine):
    code, lines, called = machine({"python3": ("3.12.1", "")})
    assert (
        code == 0
        and len(lines) == 2
        and "getting a Python 3.10 by uv" in lines[0]
        and "PIPELOOM_NO_DOWNLOAD=1" in lines[0]
    )
    assert str(machine.folder / "home/python3.10-of-uv") in lines[1]
    assert "uv python install 3.10" in called and "3.10.9: pip install" in called
    assert os.access(machine.folder / "checkout/.venv/bin/python", os.X_OK)
    assert machine({}) == (0, [], "")  # and the second start finds all there


def test_a_python_without_venv_takes_uv_into_a_folder(machine):
    code, lines, called = machine({"python3.13": ("3.13.0", "venv")})
    assert code == 0 and "--target" in called and "uv python install 3.10" in called


def test_a_uv_that_is_there_is_used(machine):
    shutil.copy(machine.folder / "standins/uv", machine.folder / "bin/uv")
    code, _, called = machine({})
    assert (
        code == 0
        and "uv python install 3.10" in called
        and "pip --" not in called
        and not (machine.folder / "checkout/.uv").exists()
    )


def test_a_3_10_that_cannot_make_environments_has_uv_make_one(machine):
    code, lines, called = machine({"python3": ("3.10.2", "venv")})
    assert code == 0 and f"--python {machine.folder}/bin/python3" in called and "uv python install" not in called


@pytest.mark.parametrize(
    "pythons, environment, says",
    [
        ({"python3": ("3.12.1", "")}, {"PIPELOOM_NO_DOWNLOAD": "1"}, "PIPELOOM_NO_DOWNLOAD forbids"),
        ({"python3": ("3.12.1", "")}, {"UV_FAILS": "1"}, "(uv python install 3.10 failed: cause: no network)"),
        ({"python3": ("3.12.1", "network")}, {}, "(uv could not be installed: ERROR: no network)"),
        ({"python3": ("3.12.1", "venv pip")}, {}, "no Python with pip"),
        ({}, {}, "no Python with pip"),
    ],
)
def test_what_cannot_be_got_leaves_the_advice_and_nothing_else(machine, pythons, environment, says):
    code, lines, called = machine(pythons, **environment)
    assert (
        code == 2
        and says in lines[-1]
        and "install Python 3.10 (e.g. pyenv install 3.10) or uv, or set PIPELOOM_PYTHON" in lines[-1]
    )
    assert len(lines) == (1 if "PIPELOOM_NO_DOWNLOAD" in environment else 2)
    assert not (machine.folder / "checkout/.venv").exists()


def test_a_bare_3_10_is_advised_of_its_venv_package(machine):
    code, lines, called = machine({"python3": ("3.10.2", "venv")}, PIPELOOM_NO_DOWNLOAD="1")
    assert code == 2 and "python3-venv" in lines[-1] and called == ""
    code, lines, _ = machine({"python3": ("3.10.2", "venv network")})
    assert code == 2 and "python3-venv" in lines[-1] and "no network" in lines[-1]
