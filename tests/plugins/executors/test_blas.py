"""Which BLAS a launcher chooses for its ranks, by made-up package folders, and MKL itself where it is there."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import metadata

import pytest
from jobs import ONE_PROCESS, TINY, Training, largest_difference

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.topology import Cluster
from pipeloom.plugins.executors.oneflow import OneFlow, blas, processor

fast = pytest.mark.fast
WORKS, FAILS = "", "import sys; sys.exit('INTEL MKL FATAL ERROR: Cannot load libmkl_avx2.so.')"


class Settings:
    def __init__(self, blas="auto", threads_per_rank=None):
        self.blas, self.threads_per_rank = blas, threads_per_rank


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make the package ``mkl`` one with these files, which a child process can use, or cannot."""

    def make(files, probe=WORKS, folder="env"):
        lib = tmp_path / folder / "lib"
        info = lib / "python3.10" / "site-packages" / "mkl-2026.2.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mkl\nVersion: 2026.2.0\n")
        (info / "RECORD").write_text("".join(f"../../{name},,\n" for name in files))
        for name in files:
            if not name.startswith("missing"):
                (lib / name).parent.mkdir(exist_ok=True)
                (lib / name).write_bytes(b"")
        monkeypatch.setattr(sys, "path", [str(info.parent)])
        monkeypatch.setattr(blas, "_PROBE", probe)
        monkeypatch.setattr(processor, "cores", lambda: 8)
        return str(lib / "libmkl_rt.so.3")

    return make


def choose(inherited=None, ranks=2, logical=True, device="cpu", **settings):
    cluster = Cluster(1 if logical else 2, ranks, device, logical)
    return OneFlow(Settings(**settings)).environment({"HOME": "/", **(inherited or {})}, cluster)


def told(env):
    return str(blas.Blas(**json.loads(env["PIPELOOM_BLAS"])))


@fast
def test_ranks_get_mkl_where_it_is_installed(install, monkeypatch):
    monkeypatch.setattr(blas, "_fault", lambda settings, inherited: "")  # the library is an empty file
    library = install(["libmkl_core.so.3", "libmkl_rt.so.3", "libiomp5.so"])
    env = choose({"LD_PRELOAD": "/usr/lib/libjemalloc.so", "MKL_DYNAMIC": "TRUE"})
    assert env["LD_PRELOAD"] == f"/usr/lib/libjemalloc.so:{library}"
    assert (env["MKL_NUM_THREADS"], env["MKL_THREADING_LAYER"], env["OMP_NUM_THREADS"]) == ("4", "INTEL", "1")
    assert (env["MKL_CBWR"], env["MKL_DYNAMIC"]) == ("AUTO,STRICT", "TRUE")  # what users set is theirs
    assert told(env) == "MKL 2026.2, 4 threads a rank"
    # Two machines: each has its own ranks alone. More ranks than cores, and a number that was asked for.
    assert choose(logical=False)["MKL_NUM_THREADS"] == "4"
    assert choose(ranks=16)["MKL_THREADING_LAYER"] == "SEQUENTIAL"
    assert choose(threads_per_rank=3)["MKL_NUM_THREADS"] == "3"
    os.unlink(os.path.join(os.path.dirname(library), "libiomp5.so"))
    assert choose()["MKL_THREADING_LAYER"] == "GNU"


@fast
@pytest.mark.parametrize("settings", [{"blas": "openblas"}, {"device": "cuda"}])
def test_nothing_is_preloaded_without_need(install, settings):
    install(["libmkl_rt.so.3"])
    env = choose(**settings)
    assert "LD_PRELOAD" not in env and "MKL_CBWR" not in env
    assert OneFlow().environment({}).get("LD_PRELOAD") is None  # a process that trains nothing


@fast
@pytest.mark.parametrize(
    "files, folder, probe, why",
    [
        (["libmkl_core.so.3"], "env", WORKS, "the package 'mkl' has no libmkl_rt.so here"),
        (["missing/libmkl_rt.so.3"], "env", WORKS, "the package 'mkl' has no libmkl_rt.so here"),
        (["libmkl_rt.so.3"], "my env", WORKS, "no colons or spaces in its path"),
        (["libmkl_rt.so.3"], "env", FAILS, "MKL 2026.2 does not work here: INTEL MKL FATAL ERROR: Cannot load"),
        (["libmkl_rt.so.3"], "env", WORKS, "cannot be preloaded"),  # an empty file is no library
        (["libmkl_rt.so.3"], "env", "import os; os.abort()", "MKL 2026.2 does not work here: "),
        (["libmkl_rt.so.3"], "env", "import time; time.sleep(9)", "a product takes more than 0.2 s"),
    ],
)
def test_an_mkl_that_does_not_work_leaves_the_bundled_blas(install, monkeypatch, files, folder, probe, why):
    install(files, probe, folder)
    monkeypatch.setattr(blas, "_PROBE_SECONDS", 0.2 if "sleep" in probe else 20)
    env = choose()
    assert "LD_PRELOAD" not in env and "MKL_NUM_THREADS" not in env
    assert re.match(r"OpenBLAS of OneFlow, 1 thread a rank \(.*" + re.escape(why), told(env))
    with pytest.raises(UsageError, match=r"^--blas mkl: .*" + re.escape(why)):
        choose(blas="mkl")


@fast
def test_without_mkl_the_bundled_blas_serves(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert told(choose()) == "OpenBLAS of OneFlow, 1 thread a rank"
    with pytest.raises(UsageError, match=r"^--blas mkl: the package 'mkl' is not installed: pip install 'pipeloom"):
        choose(blas="mkl")


@fast
def test_a_rank_keeps_what_was_preloaded_from_its_children(monkeypatch):
    chosen = blas.Blas("MKL 2026.2", 2, "/lib/libmkl_rt.so.3")
    for name, value in blas.variables(chosen, {"LD_PRELOAD": "/lib/mine.so"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(blas, "_loaded", lambda: ["/lib/libmkl_rt.so.3"])
    assert blas.settle() == chosen
    assert os.environ["LD_PRELOAD"] == "/lib/mine.so" and blas.CHOICE not in os.environ
    assert blas.settle() is None  # no launcher of ours
    for name, value in blas.variables(chosen, {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(blas, "_loaded", lambda: ["/lib/libc.so.6"])
    assert str(blas.settle()) == "OpenBLAS of OneFlow, 1 thread a rank (MKL 2026.2 was not preloaded)"
    assert "LD_PRELOAD" not in os.environ


@fast
def test_a_container_that_has_fewer_cores_than_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda pid: set(range(16)))
    assert processor.cores(tmp_path) == 16
    for text, count in (("max 100000", 16), ("250000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert processor.cores(tmp_path) == count


def test_mkl_trains_as_openblas_does(tmp_path):
    """20 steps of AdamW; each product is off by 1e-6 and less, so losses of 9 are off by 1e-5 at most."""
    try:
        metadata.version("mkl")
    except metadata.PackageNotFoundError:
        pytest.skip("needs pip install 'pipeloom[mkl]'")
    flags = ["--seq_length", "32", "--hidden_size", "64", "--train_steps", "20", "--save_every", "0", "--device", "cpu"]
    runs = {
        name: Training(tmp_path / name, *TINY, *ONE_PROCESS, *flags, "--blas", name) for name in ("mkl", "openblas")
    }
    curves = {name: run.curve() for name, run in runs.items()}
    assert "blas       MKL 20" in runs["mkl"].said() and "blas       OpenBLAS" in runs["openblas"].said()
    assert 0 < largest_difference(curves["mkl"], curves["openblas"]) < 1e-5
