"""What gets installed, and that a Python which OneFlow does not support is refused in one line."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import pipeloom

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a wheel is made from, with one data file, so that building leaves the checkout clean."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "entry.py"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("pipeloom", "core", "plugins"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    assert (copy / "pipeloom" / "core").is_symlink() and (copy / "pipeloom" / "plugins").is_symlink()
    (copy / "core" / "data" / "some.yaml").write_text("a: 1\n")
    return copy


def run(*command, **more):
    return subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, **more
    )


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel, made by way of the sdist, without a network."""
    out = tmp_path_factory.mktemp("dist")
    try:
        import wheel  # noqa: F401
    except ImportError:
        if tuple(map(int, re.findall(r"\d+", __import__("setuptools").__version__)[:2])) < (70, 1):
            pytest.skip("this setuptools needs the 'wheel' package to build one")
    done = run(sys.executable, "setup.py", "-q", "sdist", "-d", out, cwd=str(checkout))
    assert done.returncode == 0, done.stderr
    done = run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        out,
        *out.glob("*.tar.gz"),
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(str(next(out.glob("*.whl"))))


def test_nothing_is_installed_as_top_level_core_or_plugins(wheel):
    names = wheel.namelist()
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"pipeloom"}
    for name in (
        "pipeloom/__init__.py",
        "pipeloom/core/base/errors.py",
        "pipeloom/plugins/executors/oneflow/graph.py",
        "pipeloom/core/data/some.yaml",
        "pipeloom/py.typed",
        "pipeloom/plugins/strategies/__init__.py",
    ):
        assert name in names
    sources = {
        f"pipeloom/{p.relative_to(ROOT).as_posix()}" for d in ("core", "plugins") for p in (ROOT / d).rglob("*.py")
    }
    sources |= {f"pipeloom/testing/{path.name}" for path in (ROOT / "pipeloom" / "testing").glob("*.py")}
    assert sources <= set(names)


def test_metadata_pins_python_and_names_the_command(wheel):
    folder = next(n for n in wheel.namelist() if n.endswith("METADATA")).rpartition("/")[0]
    metadata = wheel.read(f"{folder}/METADATA").decode()
    requires = re.search(r"^Requires-Python: (.*)$", metadata, re.M).group(1)
    assert {part.strip() for part in requires.split(",")} == {">=3.8", "<3.11"}
    assert re.search(r"^Requires-Dist: oneflow *\(?==0.9.0", metadata, re.M)
    entry_points = wheel.read(f"{folder}/entry_points.txt").decode()
    assert "pipeloom = pipeloom.__main__:run" in entry_points
    assert "[pytest11]\npipeloom.testing.pytest_plugin = pipeloom.testing.pytest_plugin\n" in entry_points


def bare_environment(*places):
    """For ``python -S``: finds ``places`` and what is installed here, but no editable pipeloom."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*places, *map(sysconfig.get_path, SITE)]))}


SITE = ("purelib", "platlib")
WHERE = "import pipeloom.core.base.errors as e, pipeloom.plugins.strategies as s; print(e.__file__, s.__file__)"


@pytest.mark.parametrize("links", [True, False])
def test_sources_run_where_they_are_with_their_links_and_without(checkout, tmp_path, links):
    """An sdist that is unpacked has no links."""
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy, symlinks=True)
    if not links:
        (copy / "pipeloom" / "core").unlink()
        (copy / "pipeloom" / "plugins").unlink()
    done = run(sys.executable, "-S", "-c", WHERE, cwd=str(tmp_path), env=bare_environment(copy))
    where = copy / "pipeloom" if links else copy
    assert done.stdout.split() == [
        str(where / path) for path in ("core/base/errors.py", "plugins/strategies/__init__.py")
    ], done.stderr
    done = run(sys.executable, "-S", copy / "entry.py", "--version", cwd=str(tmp_path), env=bare_environment())
    assert (done.returncode, done.stdout) == (0, f"pipeloom {pipeloom.__version__}\n"), done.stderr


def test_an_editable_install_runs_the_checkout(checkout, tmp_path):
    """In an environment of its own, which sees what is installed here."""
    copy, venv = tmp_path / "copy", tmp_path / "venv"
    shutil.copytree(checkout, copy, symlinks=True)
    done = run(sys.executable, "-m", "venv", "--without-pip", venv)
    assert done.returncode == 0, done.stderr
    python = venv / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(site) / "here.pth").write_text("".join(f"{sysconfig.get_path(name)}\n" for name in SITE))
    flags = ("-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done = run(python, "-m", "pip", "install", *flags, "-e", copy, cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    done = run(python, "-c", WHERE, cwd=str(tmp_path))
    assert [Path(path).resolve().relative_to(copy.resolve()).as_posix() for path in done.stdout.split()] == [
        "core/base/errors.py",
        "plugins/strategies/__init__.py",
    ], done.stderr
    done = run(venv / "bin" / "pipeloom", "--version", cwd=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"pipeloom {pipeloom.__version__}\n"), done.stderr


def test_an_installed_copy_imports_from_its_own_place(wheel, tmp_path):
    wheel.extractall(str(tmp_path))
    done = run(sys.executable, "-c", WHERE, cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout.split() == [
        str(tmp_path / "pipeloom" / p) for p in ("core/base/errors.py", "plugins/strategies/__init__.py")
    ], done.stderr
    there = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run(sys.executable, "-m", "pipeloom", "--version", cwd=str(tmp_path), env=there)
    assert (done.returncode, done.stdout) == (0, f"pipeloom {pipeloom.__version__}\n"), done.stderr


def unsupported_pythons():
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python3.{minor}") for minor in (7, 11, 12, 13, 14)]
    found += sorted(map(str, root.glob("versions/*/bin/python")))
    for python in filter(None, found):
        version = run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()
        if version and version not in ("3.8", "3.9", "3.10"):
            yield version, python


@pytest.mark.parametrize("script, code", [([ROOT / "entry.py"], 2), ([ROOT / "setup.py"], 1), (["-m", "pipeloom"], 2)])
def test_other_pythons_are_refused_in_one_line(script, code):
    pythons = dict(unsupported_pythons())
    if not pythons:
        pytest.skip("no other Python on this machine")
    for version, python in pythons.items():
        done = run(python, *script, "--version", cwd=str(ROOT))
        assert (done.returncode, done.stdout) == (code, ""), version
        assert done.stderr.count("\n") == 1 and "3.8 to 3.10" in done.stderr and version in done.stderr


def test_constraints_agree_with_the_pins():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert pins["oneflow"] == "0.9.0" and int(pins["numpy"].split(".")[0]) < 2
    assert (3, 20) <= tuple(map(int, pins["protobuf"].split(".")[:2])) < (4,)
    assert int(pins["nvidia-cudnn-cu11"].split(".")[0]) < 9 and "nvidia-cublas-cu11" in pins


@pytest.mark.parametrize(
    "arguments, env, message",
    [
        (["0"], {}, "needs NNODES and MASTER_ADDR"),
        (["1"], {"NNODES": "2"}, "needs NNODES and MASTER_ADDR"),
        ([], {"NNODES": "2"}, "which node this is"),
    ],
)
def test_a_node_without_its_cluster_is_one_line(arguments, env, message):
    clean = {k: v for k, v in os.environ.items() if k not in ("NNODES", "MASTER_ADDR")}
    done = run(ROOT / "run_ppl.sh", *arguments, env={**clean, **env})
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
